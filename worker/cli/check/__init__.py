"""`room-worker check`: validates settings, NATS and MongoDB."""
