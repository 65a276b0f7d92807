"""Cancelling: what a thread does with a session has ended when the task that asked for it has."""

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


class Held:
    """Stands for what Motor's objects stand for; a write waits in its thread until it is released."""

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


async def cancelled_again_and_again(task: asyncio.Task[Any], held: Held) -> None:
    """Cancel a task whose thread is held, more than once; it ends when the thread has."""
    assert await asyncio.to_thread(held.reached.wait, PATIENCE)
    for _ in range(3):
        task.cancel()
        await asyncio.wait({task}, timeout=0)
        await asyncio.sleep(0)
    assert not task.done(), "the thread goes on with the session"
    held.released.set()
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.cancelled()


async def test_a_transaction_is_over_when_its_task_is_however_often_it_is_cancelled() -> None:
    held = Held()
    await cancelled_again_and_again(asyncio.create_task(commit(Database(None, held, "motor"), held, [BULK])), held)
    assert held.log == ["start", "write", "commit"]


async def test_what_a_cancelled_transaction_failed_with_is_nobodys_news() -> None:
    """The driver's error quotes the document."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    held = Held(BulkWriteError({"writeErrors": [{"code": 11000, "op": {"encKey": SECRET}}]}))
    await cancelled_again_and_again(asyncio.create_task(commit(Database(None, held, "motor"), held, [BULK])), held)
    assert held.log == ["start", "write", "abort"]
    held.error = None
    gc.collect()
    await asyncio.sleep(0)
    assert [context["message"] for context in told] == []


def test_a_bulk_shows_no_key() -> None:
    assert repr(SECRET)[2:-1] not in repr(BULK)


class Pages:
    """Stands for a database whose second page waits in its thread until it is released."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.asked = 0
        self.reading = False

    async def aggregate(self, *_: Any) -> list[Any]:
        self.asked += 1
        if self.asked > 1:
            await asyncio.to_thread(self.read)
        return [{"_id": "r1", "accounts": [f"a{self.asked}"]}, {"held": "yes"}]

    def read(self) -> None:
        self.reading = True
        self.held.wait()
        self.reading = False


@pytest.mark.parametrize("sending", [True, False], ids=["while a page is sent", "while a page is waited for"])
async def test_nobody_reads_when_a_pass_is_over(*, sending: bool) -> None:
    database = Pages(Held())

    async def one_pass() -> None:
        async with aclosing(members.pages(database, LEASE, ["r1"], first=1, most=1)) as found:  # type: ignore[arg-type]
            async for _ in found:
                if sending:
                    await asyncio.Event().wait()

    await cancelled_again_and_again(asyncio.create_task(one_pass()), database.held)
    assert not database.reading
