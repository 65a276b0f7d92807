"""Small numbers: with them a room of four is big, and an event of four memberships is cut in slices."""

from collections.abc import Callable

NUMBERS = {
    "worker.pipeline.loop.BIG_ROOM": 4,
    "store.reads.members.PAGE": 3,
    "worker.pipeline.large_rooms.WINDOW": 2,
    "worker.pipeline.writer.SLICE": 3,
}


def make_small(put: Callable[[str, int], None]) -> None:
    """Put the small numbers in their places."""
    for place, number in NUMBERS.items():
        put(place, number)
