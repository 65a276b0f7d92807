"""What is owed, in parts that fit the database's documents (16 MiB), in the order in which they are due."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat, zip_longest
from typing import Final, TypeVar

from roomkeys.decisions.decision import OutboxEntry, Outcome

PART_ACCOUNTS: Final = 1_000
"""The most accounts in one part: with the longest names and accounts that is less than 10 MiB."""

PART_BYTES: Final = 6 * 1024 * 1024
"""The most bytes of dead letters' bodies in one part, and of one of them; few servers take larger messages."""

_T = TypeVar("_T")


def in_parts(owed: OutboxEntry, most: int = PART_ACCOUNTS) -> Iterator[OutboxEntry]:
    """Yield what a room is owed as one entry or, where it concerns more than `most` accounts, as several."""
    if len(owed.joiners) + sum(_weight(outcome, most) for outcome in owed.outcomes) <= most:
        yield owed
        return
    outcomes = list(_packed([piece for outcome in owed.outcomes for piece in _pieces(outcome, most)], most))
    # Recovery pays part by part: who joins is told of it before, or in, the part that brings the key.
    joiners = chain(repeat((), len(outcomes) - 1), _slices(owed.joiners, most))
    for some, accounts in zip_longest(outcomes, joiners):
        yield replace(owed, outcomes=tuple(some or ()), joiners=tuple(accounts or ()))


def _pieces(outcome: Outcome, most: int) -> Iterator[Outcome]:
    """Cut an outcome; each piece tells of its own members, the last one is the event's end."""
    pieces = list(zip_longest(_slices(outcome.added, most), _slices(outcome.removed, most)))
    for at, (added, removed) in enumerate(pieces or [(None, None)], 1):
        final = outcome.final and at >= len(pieces)
        yield replace(outcome, added=tuple(added or ()), removed=tuple(removed or ()), final=final)


def _packed(pieces: Sequence[Outcome], most: int) -> Iterator[list[Outcome]]:
    pack: list[Outcome] = []
    size = 0
    for piece in pieces:
        weight = _weight(piece, most)
        if pack and size + weight > most:
            yield pack
            pack, size = [], 0
        pack.append(piece)
        size += weight
    yield pack


def _weight(piece: Outcome, most: int) -> int:
    """Return a piece's size in accounts: a body of `PART_BYTES` fills a part as `most` accounts do."""
    letter = 0 if piece.letter is None else len(piece.letter.body) * most // PART_BYTES
    return len(piece.added) + len(piece.removed) + letter


def _slices(values: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    return (values[start : start + most] for start in range(0, len(values), most))
