"""Verification: a model of the protocol, an oracle that judges runs, and mutations that the oracle must find.

The README says what each of them is. Tests of single functions are in `tests/unit` and `tests/integration`.
"""
