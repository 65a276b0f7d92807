"""Lookups: requests that wait while the database is read are answered together by its next read.

Ten thousand clients that miss one key at once cost a handful of reads, and each gets its own slice. Nobody is
answered by a read that began before it asked: a member who is removed is refused from then on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Generic, TypeVar

from worker.broker.cancellation import cancel_and_wait
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where

CONCURRENCY: Final = 4
"""Reads in flight at once: a slow one does not hold up the others."""

log = logger("lookups")
_Q = TypeVar("_Q")
_A = TypeVar("_A")


class ReadBatcher(Generic[_Q, _A]):
    """Collects questions of one kind; `read` answers several at once, in their order.

    `weigh` tells how much a question adds to a read, and `most` how much one may carry; `names` what it asks by
    name, of which a read may carry `most_names` different ones: each of them is looked for in all that is read.
    """

    def __init__(
        self,
        read: Callable[[Sequence[_Q]], Awaitable[Sequence[_A]]],
        tasks: asyncio.TaskGroup,
        *,
        most: int,
        weigh: Callable[[_Q], int] = lambda _: 1,
        most_names: int = 0,
        names: Callable[[_Q], AbstractSet[int]] = lambda _: frozenset(),
    ) -> None:
        self._read = read
        self._weigh = weigh
        self._most = most
        self._names = names
        self._most_names = most_names
        self._waiting: deque[tuple[_Q, asyncio.Future[_A]]] = deque()
        self._arrived = asyncio.Event()
        self._lanes = [tasks.create_task(self._serve()) for _ in range(CONCURRENCY)]

    async def ask(self, question: _Q) -> _A:
        """Return the answer of the next read; whatever that fails with is raised."""
        future: asyncio.Future[_A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Read no more."""
        for lane in self._lanes:
            await cancel_and_wait(lane)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            if taken := self._take():
                await self._answer(taken)
            else:
                self._arrived.clear()

    def _take(self) -> list[tuple[_Q, asyncio.Future[_A]]]:
        taken: list[tuple[_Q, asyncio.Future[_A]]] = []
        weight, names = 0, set[int]()
        while self._waiting:
            question, future = self._waiting[0]
            weight += self._weigh(question)
            names |= self._names(question)
            if taken and (weight > self._most or len(names) > self._most_names):
                break
            self._waiting.popleft()
            if not future.done():  # it has not waited too long
                taken.append((question, future))
        return taken

    async def _answer(self, taken: list[tuple[_Q, asyncio.Future[_A]]]) -> None:
        metrics.LOOKUPS.observe(len(taken))
        try:
            answers = await self._read([question for question, _ in taken])
        except Exception as error:  # noqa: BLE001 - whoever waits for it says what it means
            log.warning("lookup failed", requests=len(taken), error=where(error))
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_result(answer)
