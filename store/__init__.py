"""MongoDB: memberships, room keys, cursors, the outbox, leases.

One file a collection's concern, plain functions over a `Database`. Everything is read from and written to the
primary with majority concerns, whatever the URI says; driver errors leave this package as `roomkeys.errors`.
"""
