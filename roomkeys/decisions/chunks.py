"""Outbox entries in chunks that fit one document of the database (16 MiB), in the order in which they are sent."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat, zip_longest
from typing import Final, TypeVar

from roomkeys.decisions.decision import OutboxEntry, Outcome

CHUNK_ACCOUNTS: Final = 1_000
"""The most accounts in one chunk. With the longest names and accounts this is less than 10 MiB."""

CHUNK_BYTES: Final = 6 * 1024 * 1024
"""The most bytes of dead-letter bodies in one chunk, and in one dead letter; few servers take larger messages."""

_T = TypeVar("_T")


def in_chunks(entry: OutboxEntry, most: int = CHUNK_ACCOUNTS) -> Iterator[OutboxEntry]:
    """Yield the entry as it is or, if it concerns more than `most` accounts, as several entries."""
    if len(entry.joiners) + sum(_weight(outcome, most) for outcome in entry.outcomes) <= most:
        yield entry
        return
    outcomes = list(_packed([piece for outcome in entry.outcomes for piece in _pieces(outcome, most)], most))
    # Recovery delivers chunk by chunk: a joiner's notice is in the chunk that has the joiner, or before it.
    joiners = chain(repeat((), len(outcomes) - 1), _batched(entry.joiners, most))
    for some, accounts in zip_longest(outcomes, joiners):
        yield replace(entry, outcomes=tuple(some or ()), joiners=tuple(accounts or ()))


def _pieces(outcome: Outcome, most: int) -> Iterator[Outcome]:
    """Cut an outcome into pieces of up to `most` members each; only the last one is final."""
    pieces = list(zip_longest(_batched(outcome.added, most), _batched(outcome.removed, most)))
    for number, (added, removed) in enumerate(pieces or [(None, None)], 1):
        final = outcome.final and number >= len(pieces)
        yield replace(outcome, added=tuple(added or ()), removed=tuple(removed or ()), final=final)


def _packed(pieces: Sequence[Outcome], most: int) -> Iterator[list[Outcome]]:
    """Put as many pieces together as fit one chunk, in order."""
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
    """Return the size of a piece in accounts: a body of `CHUNK_BYTES` fills a chunk as `most` accounts do."""
    letter = 0 if piece.letter is None else len(piece.letter.body) * most // CHUNK_BYTES
    return len(piece.added) + len(piece.removed) + letter


def _batched(values: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    return (values[start : start + most] for start in range(0, len(values), most))
