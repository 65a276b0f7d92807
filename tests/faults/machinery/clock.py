"""A clock that jumps: `CLOCK=10800,-10800` moves it by so many seconds, in turn, at every step of the loop."""

import time
from collections.abc import Mapping
from itertools import cycle

from tests.faults.machinery.trap import at_steps


def disturb(environment: Mapping[str, str]) -> None:
    """Let the clock of this process jump as the environment asks, if at all."""
    if "CLOCK" not in environment:
        return
    jumps = cycle([float(jump) for jump in environment["CLOCK"].split(",")])
    now, now_ns = time.time, time.time_ns
    offset = 0.0

    def jump(_place: str) -> None:
        nonlocal offset
        offset = next(jumps)

    time.time = lambda: now() + offset
    time.time_ns = lambda: now_ns() + int(offset * 1e9)
    at_steps(jump)
