"""`room-worker demo` and `room-worker dev`: the whole system on this machine."""
