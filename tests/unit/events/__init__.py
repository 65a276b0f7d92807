"""Decoding of events."""
