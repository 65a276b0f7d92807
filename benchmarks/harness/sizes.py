"""The sizes of a run. `BENCH=quick` runs for one minute and only shows that everything works."""

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes and rounds of one run."""

    rounds: int
    large_room: int
    peak_room: int
    rooms_of_ten: int
    room: int
    removals_in_room: int
    removals_in_rooms_of_ten: int
    removals_beside_flood: int
    recipients: tuple[int, ...]
    backlogs: tuple[int, ...]


FULL: Final = Sizes(
    rounds=3,
    large_room=100_000,
    peak_room=1_000_000,
    rooms_of_ten=20_000,
    room=10_000,
    removals_in_room=80,
    removals_in_rooms_of_ten=100,
    removals_beside_flood=100,
    recipients=(1_000, 10_000, 100_000, 1_000_000),
    backlogs=(1_000, 10_000, 100_000),
)
QUICK: Final = Sizes(
    rounds=2,
    large_room=20_000,
    peak_room=60_000,
    rooms_of_ten=1_000,
    room=1_000,
    removals_in_room=10,
    removals_in_rooms_of_ten=20,
    removals_beside_flood=20,
    recipients=(1_000, 20_000, 60_000),
    backlogs=(100, 1_000),
)
IS_QUICK: Final = os.environ.get("BENCH") == "quick"
SIZES: Final = QUICK if IS_QUICK else FULL

TEN: Final = 10
FIRST: Final = 1_000_000
"""The number of the first account. It is so high that all accounts have the same length."""
