"""Decisions: pure functions from a batch of events and a snapshot of the database to data.

Nothing here may read a clock, a server or a random source; callers pass in the time and new ids.
"""
