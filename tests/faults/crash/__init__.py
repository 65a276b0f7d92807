"""Crashes at every step."""
