"""What a batch of events comes to: pure functions from events and a snapshot to a decision.

Nothing here reads a clock, a server or a random source: callers pass the time and new ids in.
"""
