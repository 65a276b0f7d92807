"""The oracle: records a run of the worker from outside and judges whether every invariant held.

The recorder observes, the timeline says what the events demand, and the checks compare both. Nothing here
imports the worker, except for subjects.
"""
