"""The soak: rounds of random faults for as long as asked, each judged by the oracle.

`python -m tests.load.soak` runs it. A round is chosen by its seed and is repeatable. Short tests of single
faults are in `tests/faults`.
"""
