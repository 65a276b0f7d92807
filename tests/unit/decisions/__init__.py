"""Decisions, compared with examples and with an independent model."""
