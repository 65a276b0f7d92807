"""A transaction as data: a list of checks and bulk writes that are carried out in order and committed.

Motor hands every call to a thread. A transaction that is made call by call would switch threads twice per command,
which takes as long as the command itself. One that is data switches threads once.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pymongo import DeleteMany, InsertOne, UpdateMany, UpdateOne
from pymongo.results import BulkWriteResult

from store.database import EVERYTHING, IN_TRANSACTIONS, SIMPLE, Database, Document
from store.errors import translated

Write = InsertOne[Document] | UpdateOne | UpdateMany | DeleteMany

update_one: Final = partial(UpdateOne, collation=SIMPLE)
update_many: Final = partial(UpdateMany, collation=SIMPLE)
delete_many: Final = partial(DeleteMany, collation=SIMPLE)

_THREADS: Final = ThreadPoolExecutor(32, thread_name_prefix="transaction")
"""One thread per transaction that runs at the same time; threads are created when they are needed."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Writes to one collection, in any order, one command per kind. `unmatched`: raised if an update finds nothing."""

    collection: str
    writes: Sequence[Write] = field(repr=False)
    unmatched: Exception | None = None

    def send(self, db: Any, session: Any) -> Any:
        """Return the result or, from an asynchronous driver, an awaitable of it."""
        return db[self.collection].bulk_write(self.writes, ordered=False, session=session)

    def check(self, written: BulkWriteResult) -> None:
        """Raise `unmatched` if an update found no document."""
        if self.unmatched is not None and written.matched_count != len(self.writes):
            raise self.unmatched


@dataclass(frozen=True, slots=True)
class Look:
    """Documents that a transaction reads before it writes them. `check` raises if they are not as expected.

    If another writer changes one of them from then on, the transaction fails with a conflict. For many documents
    this costs the server less than updates with filters: it plans every filter other than a bare `_id`.
    """

    collection: str
    query: Document
    fields: Document
    check: Callable[[Sequence[Document]], None]

    def send(self, db: Any, session: Any) -> Any:
        """Return the documents or, from an asynchronous driver, an awaitable of them."""
        options = {"session": session, "batch_size": EVERYTHING, "collation": SIMPLE}
        return db[self.collection].find(self.query, self.fields, **options).to_list(None)


Step = Bulk | Look


async def commit(database: Database, session: Any, steps: Sequence[Step]) -> None:
    """Carry out the steps in order and commit them, all or none. A bulk without writes sends no command.

    After a `WriteConflict`, a `Refused`, or an error that a `check` raises, nothing was written. After any other
    `DatabaseError`, the transaction may or may not have been committed.
    """
    wanted: list[Step] = [step for step in steps if isinstance(step, Look) or step.writes]
    with translated():
        if database.driver == "motor":
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(_THREADS, _write, database.db.delegate, session.delegate, wanted)
            await wait_despite_cancellation(writing)
            writing.result()
        else:
            await _awaited(database, session, wanted)


async def _awaited(database: Database, session: Any, steps: Sequence[Step]) -> None:
    await session.start_transaction(**IN_TRANSACTIONS)
    try:
        for step in steps:
            step.check(await step.send(database.db, session))
    except BaseException:
        await session.abort_transaction()
        raise
    with translated(in_doubt=True):
        await session.commit_transaction()


def _write(db: Any, session: Any, steps: Sequence[Step]) -> None:
    session.start_transaction(**IN_TRANSACTIONS)
    try:
        for step in steps:
            step.check(step.send(db, session))
    except BaseException:
        session.abort_transaction()
        raise
    with translated(in_doubt=True):
        session.commit_transaction()


async def wait_despite_cancellation(work: asyncio.Future[Any]) -> None:
    """Wait until the work is done. Cancellation takes effect only then; `work.result()` raises the work's errors."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.cancelled():
        work.exception()  # asyncio would log an error that was not retrieved, and the log must not quote a key
    if cancelled is not None:
        raise cancelled
