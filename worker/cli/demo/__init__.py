"""`room-worker demo` and `room-worker dev`: the whole system on this machine.

`story` says what happens and who must be able to read what, `stage` plays it, `subscriber` is one account's
client, and `sandbox` runs the worker.
"""
