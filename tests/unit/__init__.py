"""Tests of the pure rules: no server, no clock, no sleep."""
