"""A transaction as data: looks and bulks of writes that go to the server in one go, one after the other.

Motor hands every call to a thread. A transaction that is made call by call changes threads twice a command, which
takes as long as the command itself; one that is data changes threads once.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import DeleteMany, InsertOne, UpdateMany, UpdateOne
from pymongo.results import BulkWriteResult

from store.database import EVERYTHING, IN_TRANSACTIONS, Database, Document
from store.errors import translated

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


@dataclass(frozen=True, slots=True)
class Look:
    """Documents that a transaction reads before it writes them; `check` raises if they are not as they should be.

    Whoever else writes one of them from then on is a conflict. For many documents this costs the server less
    than updates that look for themselves: it plans every filter but a bare `_id`.
    """

    collection: str
    query: Document
    fields: Document
    check: Callable[[Sequence[Document]], None]


Step = Bulk | Look


async def commit(database: Database, session: Any, steps: Sequence[Step]) -> None:
    """Take the steps in their order and commit them, all or none; a bulk without writes is no command.

    `WriteConflict`: nothing was written. `TransientError`: perhaps it was. An error that a step's `check` raises:
    nothing was written.
    """
    wanted: list[Step] = [step for step in steps if isinstance(step, Look) or step.writes]
    with translated():
        if database.driver == "motor":
            await _in_a_thread(database, session, wanted)
        else:
            await _awaited(database, session, wanted)


async def _awaited(database: Database, session: Any, steps: Sequence[Step]) -> None:
    await session.start_transaction(**IN_TRANSACTIONS)
    try:
        for step in steps:
            collection = database[step.collection]
            if isinstance(step, Look):
                cursor = collection.find(step.query, step.fields, session=session, batch_size=EVERYTHING)
                step.check(await cursor.to_list(None))
            else:
                step.check(await collection.bulk_write(step.writes, ordered=False, session=session))
    except BaseException:
        await session.abort_transaction()
        raise
    await session.commit_transaction()


async def _in_a_thread(database: Database, session: Any, steps: Sequence[Step]) -> None:
    loop = asyncio.get_running_loop()
    writing = loop.run_in_executor(_THREADS, _write, database.db.delegate, session.delegate, steps)
    await wait_despite_cancellation(writing)
    writing.result()


def _write(db: Any, session: Any, steps: Sequence[Step]) -> None:
    session.start_transaction(**IN_TRANSACTIONS)
    try:
        for step in steps:
            collection = db[step.collection]
            if isinstance(step, Look):
                cursor = collection.find(step.query, step.fields, session=session, batch_size=EVERYTHING)
                step.check(cursor.to_list(None))
            else:
                step.check(collection.bulk_write(step.writes, ordered=False, session=session))
    except BaseException:
        session.abort_transaction()
        raise
    session.commit_transaction()


async def wait_despite_cancellation(work: asyncio.Future[Any]) -> None:
    """Wait until the work is done, however it ends; a cancellation meanwhile counts once it is."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.cancelled():
        work.exception()  # asyncio tells the log of one that nobody has looked at, and that may quote a key
    if cancelled is not None:
        raise cancelled
