"""Batching: requests that wait while the database is read are answered together by the next read.

When ten thousand clients miss one key at the same time, a handful of reads answers all of them, and each client
gets only what it asked for. A request is never answered by a read that began before the request came: from the
moment that a member is removed, its requests are refused.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, dataclass, field
from typing import Final, Generic, TypeVar

from worker.broker.cancellation import cancel_and_wait
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

CONCURRENCY: Final = 4
"""Reads in flight at once, so that a slow read does not delay all others."""

log = logger("key_service")
_Q = TypeVar("_Q")
_R = TypeVar("_R")


@dataclass(eq=False)
class ReadBatcher(Generic[_Q, _R]):
    """Collects queries of one kind; `read` takes several and returns their results in the same order.

    One read takes queries up to a total `cost` of `max_cost`, and up to `max_versions` different `versions_of`
    them, because the database looks for each version in every room that it reads. One query alone may exceed
    both.
    """

    read: Callable[[Sequence[_Q]], Awaitable[Sequence[_R]]]
    tasks: InitVar[asyncio.TaskGroup]
    max_cost: int
    cost: Callable[[_Q], int] = lambda _: 1
    max_versions: int = 0
    versions_of: Callable[[_Q], AbstractSet[int]] = lambda _: frozenset()
    _waiting: deque[tuple[_Q, asyncio.Future[_R]]] = field(default_factory=deque, init=False)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self, tasks: asyncio.TaskGroup) -> None:
        self._readers = [tasks.create_task(self._run()) for _ in range(CONCURRENCY)]

    async def ask(self, query: _Q) -> _R:
        """Return the result of the query from the next read; raises what that read raises."""
        future: asyncio.Future[_R] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Cancel the reads in flight and start no others."""
        for reader in self._readers:
            await cancel_and_wait(reader)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            if batch := self._next_batch():
                await self._answer(batch)
            else:
                self._arrived.clear()

    def _next_batch(self) -> list[tuple[_Q, asyncio.Future[_R]]]:
        batch: list[tuple[_Q, asyncio.Future[_R]]] = []
        cost, versions = 0, set[int]()
        while self._waiting:
            query, future = self._waiting[0]
            cost += self.cost(query)
            versions |= self.versions_of(query)
            if batch and (cost > self.max_cost or len(versions) > self.max_versions):
                break
            self._waiting.popleft()
            if not future.done():  # done: the request has timed out
                batch.append((query, future))
        return batch

    async def _answer(self, batch: list[tuple[_Q, asyncio.Future[_R]]]) -> None:
        metrics.LOOKUPS.observe(len(batch))
        try:
            results = await self.read([query for query, _ in batch])
        except Exception as error:  # noqa: BLE001 - each request of the batch handles it
            log.warning("database read failed", requests=len(batch), error=where(error))
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
