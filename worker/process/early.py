"""What has to happen before anything large is imported.

Importing the worker takes half a second. A signal that arrives in that time must not be lost: to process 1 of a
container, the kernel delivers only signals that it handles. And a program that was started with closed descriptors
(`room-worker run <&-`) would take sockets for its standard streams.
"""

import os
import signal
import sys
from typing import Final

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)

kept: Final[list[int]] = []
"""The signals that arrived before there was somebody to handle them."""


def keep_signals() -> None:
    """Keep SIGINT and SIGTERM in `kept` until the command handles them."""
    for number in STOPPING:
        signal.signal(number, lambda arrived, _frame: kept.append(arrived))


def open_descriptors() -> None:
    """Open descriptors 0 to 2 if they are closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest closed one: this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open to the end of the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
