"""The judge: records a whole run of the worker and decides whether its invariants held. (design.md, 1 to 10)"""
