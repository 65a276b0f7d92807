"""Owed dead letters: each has a separate document in the outbox collection.

It is written in the transaction of its batch, and deleted once the dead-letter stream has acknowledged it. That
deletion needs no fence: under whatever lease, the one who deletes it knows that the stream has the letter. So letters
conflict with no batch, and an outbox entry does not wait for one. (docs/design.md, "Dead letters")
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter
from pymongo import UpdateOne

from roomkeys.decisions.decision import DeadLetter, Outcome
from roomkeys.errors import ErrorInfo
from store.database import Database, Document
from store.errors import translated
from store.leases.lease import Lease, fence
from store.transaction import Bulk, commit
from store.writes.outbox import OUTBOX, StoredEntry


@dataclass(frozen=True, slots=True)
class OwedLetter:
    """A dead letter with its `_id`, which sorts by partition, lease, batch and sequence, in this order.

    `created_ns` is when the events stream of its event was created (epoch nanoseconds).
    """

    id: str
    sequence: int
    error: ErrorInfo
    letter: DeadLetter
    request_id: str | None
    created_ns: int


_LETTER: Final = TypeAdapter(OwedLetter)


def letters_of(lease: Lease, entries: Iterable[StoredEntry], created_ns: int) -> list[OwedLetter]:
    """Return the letters that entries owe, in stream order."""
    owed = [
        OwedLetter(_id(lease, entry.id, one.sequence), one.sequence, one.error, one.letter, one.request_id, created_ns)
        for entry in entries
        for one in entry.content.outcomes
        if one.letter is not None and one.error is not None
    ]
    return sorted(owed, key=lambda letter: letter.id)


def without_letters(entry: StoredEntry) -> StoredEntry:
    """Return the entry as it is stored: its letters have separate documents."""
    if all(outcome.letter is None for outcome in entry.content.outcomes):
        return entry
    outcomes = tuple(map(_without_letter, entry.content.outcomes))
    return StoredEntry(entry.id, replace(entry.content, outcomes=outcomes))


def letter_document(letter: OwedLetter) -> Document:
    """Return a letter as a document. Raise an error if it could not be read back."""
    fields = _LETTER.dump_python(letter, warnings="error")
    return {"_id": fields.pop("id"), "letter": fields}


async def keep_letters(database: Database, lease: Lease, entries: Sequence[StoredEntry], created_ns: int) -> None:
    """Write the letters of entries that a version before 0.2 has stored with them. Errors are those of `apply`."""
    documents = map(letter_document, letters_of(lease, entries, created_ns))
    writes = [UpdateOne({"_id": item.pop("_id")}, {"$setOnInsert": item}, upsert=True) for item in documents]
    if writes:
        await commit(database, lease.session, [fence(lease), Bulk(OUTBOX, writes)])


async def owed_letters(database: Database, lease: Lease, after: str, page: int) -> list[OwedLetter]:
    """Return up to `page` letters that the partition owes, in order, after the one with the id `after`."""
    prefix = _prefix(lease.id)
    query = {"_id": {"$gt": after or prefix, "$lt": f"{prefix}~"}}
    found = await database.find(OUTBOX, query, {"letter": 1}, sort="_id", limit=page)
    return [_LETTER.validate_python({"id": item["_id"], **item["letter"]}) for item in found]


async def count_letters(database: Database, cursor_ids: Iterable[str]) -> int:
    """Return how many letters partitions owe, by the ids of their cursor documents."""
    ranges = [{"_id": {"$gt": prefix, "$lt": f"{prefix}~"}} for prefix in map(_prefix, cursor_ids)]
    with translated():
        return int(await database[OUTBOX].count_documents({"$or": ranges})) if ranges else 0


async def delete_letters(database: Database, ids: Sequence[str]) -> None:
    """Delete letters that the stream has acknowledged; without ids, send no command."""
    if ids:
        with translated():
            await database[OUTBOX].delete_many({"_id": {"$in": list(ids)}})


def _without_letter(outcome: Outcome) -> Outcome:
    return outcome if outcome.letter is None else replace(outcome, letter=None)


def _id(lease: Lease, entry_id: str, sequence: int) -> str:
    """Return a letter's `_id`: like that of its entry, with the sequence before the entry's number in the batch."""
    batch, _, index = entry_id.removeprefix(f"{lease.id}.").rpartition(".")
    return f"{_prefix(lease.id)}{batch}.{sequence:020d}.{index}"


def _prefix(cursor_id: str) -> str:
    return f"{cursor_id}.letter."
