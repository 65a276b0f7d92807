"""The checks of the oracle: one file per invariant of docs/design.md or part of one, one function per check.

A check reads an `Analysis` and yields a text for everything that is wrong. `judge.py` says which invariant it
checks.
"""
