"""One partition's batch: read, decide, apply, deliver, confirm, settle, announce.

`loop.py` has the steps; the other files hold one step or one piece of a partition's state each.
"""
