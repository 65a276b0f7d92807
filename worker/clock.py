"""The clock of the worker. Code that needs the time gets a `Clock`, so that tests can pass another one."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the time in epoch milliseconds."""


def now_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
