"""A scenario: the log, the room, and how often each thing may go wrong."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple


class Event(NamedTuple):
    """One event of the log. An event that is `sliced` is applied one account at a time."""

    kind: str
    accounts: tuple[int, ...] = ()
    sliced: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {names(self.accounts)}".strip() + " in slices" * self.sliced


class Size(StrEnum):
    """How the staged keys of a room reach its members."""

    SMALL = "small"
    """The loop sends them."""
    LARGE = "large"
    """A rollout beside the loop sends them."""
    EITHER = "either"
    """The search tries both for every staged key."""


class Scenario(NamedTuple):
    """A log, a room, and how often the lease, the connection and a transaction may fail.

    `takeovers` counts only leases that are taken from a living owner. In each of the `outages` the database refuses
    at least two transactions in a row, whatever is in them. It always refuses the events `refused` (their numbers).
    In each of the `denials` the broker denies a staged key to every member. A room without `has_key` never had a key.
    `max_batch` is the most events of a batch.
    """

    log: tuple[Event, ...]
    members: tuple[int, ...] = (0, 1)
    accounts: int = 3
    size: Size = Size.LARGE
    has_key: bool = True
    takeovers: int = 1
    disconnects: int = 0
    conflicts: int = 0
    outages: int = 0
    denials: int = 0
    refused: tuple[int, ...] = ()
    max_batch: int = 3

    def refuses(self, events: Iterable[int]) -> bool:
        """Return True if the database refuses one of these events, by their numbers."""
        return any(number in self.refused for number in events)

    def __str__(self) -> str:
        first = "" if self.members == (0, 1) else f"members {', '.join(names(self.members))}; "
        refused = "".join(f"; event {number} is refused" for number in self.refused)
        return first + ", ".join(map(str, self.log)) + refused


A, B, C = range(3)
ROTATE: Final = Event("rotate")
REJECT: Final = Event("reject")
"""An event that can never succeed: it owes a dead letter."""


def add(*accounts: int) -> Event:
    """Return an event that adds accounts to the room."""
    return Event("add", accounts)


def remove(*accounts: int) -> Event:
    """Return an event that removes accounts from the room."""
    return Event("remove", accounts)


def create_again(*accounts: int) -> Event:
    """Return an event that creates the room, which another program has deleted before it."""
    return Event("create", accounts)


def in_slices(event: Event) -> Event:
    """Return the event as one that is too large for one transaction."""
    return event._replace(sliced=True)


def names(accounts: tuple[int, ...]) -> str:
    """Return accounts as letters."""
    return "".join("abcdefgh"[account] for account in accounts)
