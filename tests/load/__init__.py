"""Load: large rooms, huge events and backlogs, with few of everything by default and in full with `LOAD=full`.

`soak` plays rounds of random faults. Measurements of speed are in `benchmarks`, not here.
"""
