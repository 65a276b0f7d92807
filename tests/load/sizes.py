"""How large the load is: small by default, full with `LOAD=full` (make soak)."""

import os

FULL = os.environ.get("LOAD") == "full"


def size(full: int, small: int) -> int:
    """Return the full size, or the small one that every run can afford."""
    return full if FULL else small
