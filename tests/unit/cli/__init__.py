"""The command `room-worker`, without servers."""
