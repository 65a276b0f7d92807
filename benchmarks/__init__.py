"""Benchmarks: they measure and print, and never fail because of a number.

`make bench` runs all of them. benchmarks/README.md says what each scenario measures and how to read the results.
"""
