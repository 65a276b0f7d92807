"""The command `room-worker` as a separate process, and the servers that it can start."""
