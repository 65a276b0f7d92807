"""The model: the protocol of one partition as a small state machine, and an exhaustive search of its states.

A search starts two workers on a short log of events. It takes every step that either of them can take next, with
takeovers, broken connections and write conflicts at every step, and checks the invariants after each. Nothing here
imports the worker: `table.py` says which function of the worker each rule stands for.
"""
