"""A transaction as data: bulks of writes that go to the server in one go, one after the other.

Motor hands every call to a thread. A transaction that is made call by call changes threads twice a command, which
takes as long as the command itself; one that is data changes threads once.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import DeleteMany, InsertOne, UpdateMany, UpdateOne
from pymongo.results import BulkWriteResult

from store.connect import DURABLE, Database, Document
from store.failures import translated
from store.undisturbed import done

Write = InsertOne[Document] | UpdateOne | UpdateMany | DeleteMany

_THREADS: Final = ThreadPoolExecutor(32, thread_name_prefix="transaction")
"""Threads for as many partitions' transactions at once; they are made as they are needed."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Writes to one collection, in no order: one command for each kind of write among them.

    `unmatched` is raised where an update finds no document; without it that is no error.
    """

    collection: str
    writes: Sequence[Write] = field(repr=False)
    unmatched: Exception | None = None

    def check(self, written: BulkWriteResult) -> None:
        """Raise `unmatched` if an update has found no document."""
        if self.unmatched is not None and written.matched_count != len(self.writes):
            raise self.unmatched


async def commit(database: Database, session: Any, bulks: Sequence[Bulk]) -> None:
    """Write the bulks in their order and commit them, all or none; a bulk without writes is no command.

    `Conflict`: nothing was written; `Passing`: perhaps it was; or what a bulk has for `unmatched`: nothing was.
    """
    wanted = [bulk for bulk in bulks if bulk.writes]
    with translated():
        if database.driver == "motor":
            await _in_a_thread(database, session, wanted)
        else:
            await _awaited(database, session, wanted)


async def _awaited(database: Database, session: Any, bulks: Sequence[Bulk]) -> None:
    await session.start_transaction(write_concern=DURABLE)
    try:
        for bulk in bulks:
            bulk.check(await database[bulk.collection].bulk_write(bulk.writes, ordered=False, session=session))
    except BaseException:
        await session.abort_transaction()
        raise
    await session.commit_transaction()


async def _in_a_thread(database: Database, session: Any, bulks: Sequence[Bulk]) -> None:
    loop = asyncio.get_running_loop()
    writing = loop.run_in_executor(_THREADS, _write, database.db.delegate, session.delegate, bulks)
    await done(writing)
    writing.result()


def _write(db: Any, session: Any, bulks: Sequence[Bulk]) -> None:
    session.start_transaction(write_concern=DURABLE)
    try:
        for bulk in bulks:
            bulk.check(db[bulk.collection].bulk_write(bulk.writes, ordered=False, session=session))
    except BaseException:
        session.abort_transaction()
        raise
    session.commit_transaction()
