"""`room-worker check`: validates the settings, NATS and MongoDB, and explains how to fix what is wrong."""
