"""The sizes of the load: small by default, full with `LOAD=full`."""

import os

FULL = os.environ.get("LOAD") == "full"


def size(full: int, small: int) -> int:
    """Return the full size with `LOAD=full`, otherwise the small one."""
    return full if FULL else small
