"""MongoDB: plain functions over a `Database` that read and write rooms, memberships, leases and the outbox.

Everything is read from the primary and written with majority concern, whatever the URI says. Errors of the drivers
leave this package as `roomkeys.errors`; nothing here may decide a rule or use NATS.
"""
