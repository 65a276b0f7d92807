"""Takeovers, zombies and clocks."""
