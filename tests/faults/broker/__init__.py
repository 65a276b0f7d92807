"""Faults of the broker and its connections."""
