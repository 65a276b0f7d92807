"""Small numbers: with them a room of four is big, and an event of four memberships is cut in slices."""

from collections.abc import Callable

NUMBERS = {
    "worker.loop.BIG_ROOM": 4,
    "store.reads.members.PAGE": 3,
    "worker.drainers.WINDOW": 2,
    "worker.writer.SLICE": 3,
}


def make_small(put: Callable[[str, int], None]) -> None:
    """Put the small numbers in their places."""
    for place, number in NUMBERS.items():
        put(place, number)
