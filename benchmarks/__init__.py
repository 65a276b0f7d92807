"""Measurements: ratios and numbers, never tests. Each table that is published has the command that made it."""
