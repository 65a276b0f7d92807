"""Deliberate bugs, each of which the oracle must catch."""
