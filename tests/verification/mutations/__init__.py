"""Mutations: workers that are broken on purpose. They show that the oracle finds the faults.

Only tests import them. A worker without mutations must come through every scenario (`test_controls.py`).
"""
