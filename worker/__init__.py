"""NATS and the loop: feed → decide → apply → deliver → settle → announce."""
