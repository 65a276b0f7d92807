"""When a task is cancelled and has ended, no thread uses its session any more."""

import asyncio
import gc
import threading
from contextlib import aclosing
from typing import Any

import pytest
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from store.database import Database
from store.leases.lease import Lease
from store.reads import members
from store.transaction import Bulk, commit

SECRET = b"\xca\xfe" * 16
BULK = Bulk("rooms", [UpdateOne({"_id": "r1"}, {"$set": {"encKey": SECRET}})])
LEASE = Lease("site-a", 0, "me", 1, None)
PATIENCE = 30


class BlockedSession:
    """Stands in for Motor's objects. A write waits in its thread until it is released."""

    def __init__(self, error: Exception | None = None) -> None:
        self.delegate = self
        self.error = error
        self.reached, self.released = threading.Event(), threading.Event()
        self.log: list[str] = []

    def __getitem__(self, _: str) -> Any:
        return self

    def start_transaction(self, **_: Any) -> None:
        self.log.append("start")

    def bulk_write(self, *_: Any, **__: Any) -> None:
        self.wait()
        self.log.append("write")
        if self.error is not None:
            raise self.error

    def abort_transaction(self) -> None:
        self.log.append("abort")

    def commit_transaction(self) -> None:
        self.log.append("commit")

    def wait(self) -> None:
        self.reached.set()
        assert self.released.wait(PATIENCE)


async def cancel_repeatedly(task: asyncio.Task[Any], session: BlockedSession) -> None:
    """Cancel a task, whose thread is waiting, several times; assert that it ends only after the thread."""
    assert await asyncio.to_thread(session.reached.wait, PATIENCE)
    for _ in range(3):
        task.cancel()
        await asyncio.wait({task}, timeout=0)
        await asyncio.sleep(0)
    assert not task.done(), "the thread still uses the session"
    session.released.set()
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.cancelled()


async def test_transaction_has_ended_when_its_cancelled_task_ends() -> None:
    session = BlockedSession()
    await cancel_repeatedly(asyncio.create_task(commit(Database(None, session, "motor"), session, [BULK])), session)
    assert session.log == ["start", "write", "commit"]


async def test_error_of_a_cancelled_transaction_is_not_logged() -> None:
    """The driver's error quotes the document, which contains a key."""
    contexts: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: contexts.append(context))
    session = BlockedSession(BulkWriteError({"writeErrors": [{"code": 11000, "op": {"encKey": SECRET}}]}))
    await cancel_repeatedly(asyncio.create_task(commit(Database(None, session, "motor"), session, [BULK])), session)
    assert session.log == ["start", "write", "abort"]
    session.error = None
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in contexts] == []


def test_repr_of_a_bulk_shows_no_key() -> None:
    assert repr(SECRET)[2:-1] not in repr(BULK)


class Pages:
    """Stands in for a database whose second page waits in its thread until it is released."""

    def __init__(self, session: BlockedSession) -> None:
        self.session = session
        self.asked = 0
        self.reading = False

    async def aggregate(self, *_: Any) -> list[Any]:
        self.asked += 1
        if self.asked > 1:
            await asyncio.to_thread(self.read)
        return [{"_id": "r1", "accounts": [f"a{self.asked}"]}, {"lease": "valid"}]

    def read(self) -> None:
        self.reading = True
        self.session.wait()
        self.reading = False


@pytest.mark.parametrize("sending", [True, False], ids=["while a page is sent", "while a page is waited for"])
async def test_no_page_is_being_read_when_a_pass_has_ended(*, sending: bool) -> None:
    database = Pages(BlockedSession())

    async def one_pass() -> None:
        async with aclosing(members.pages(database, LEASE, ["r1"], first=1, most=1)) as found:  # type: ignore[arg-type]
            async for _ in found:
                if sending:
                    await asyncio.Event().wait()

    await cancel_repeatedly(asyncio.create_task(one_pass()), database.session)
    assert not database.reading
