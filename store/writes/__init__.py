"""What the worker writes: apply, settle and the outbox, each in one transaction that begins with the fence.

Nothing here may decide what is written: that is data from `roomkeys.decisions`.
"""
