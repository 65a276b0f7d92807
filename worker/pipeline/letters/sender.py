"""Dead letters: what a partition owes the dead-letter stream, sent beside the loop.

Each letter has a separate document, written in the transaction of its batch. So it holds up neither its batch nor the
entries of its room. The sender publishes letters in order, and deletes each one once the stream has acknowledged it.
What the stream refuses stays owed, and is tried again with growing pauses. (docs/design.md, "Dead letters")
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from roomkeys.backoff import Backoff
from roomkeys.errors import TransientError
from store.database import Database
from store.leases.lease import Lease
from store.writes import letters as stored
from store.writes.letters import OwedLetter
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.limits import Limits
from worker.pipeline.letters.publisher import LetterPublisher, Refused, TooLarge
from worker.telemetry import metrics
from worker.telemetry.logs import logger, where
from worker.telemetry.outage import Outage

_AT_ONCE: Final = 32
_CLOSE_S: Final = 2.0

log = logger("dead_letters")


@dataclass(slots=True)
class LetterContext:
    """What the senders of a replica share. `undelivered` has the number of refused letters by partition."""

    broker: Broker
    database: Database
    site: str
    limits: Limits
    undelivered: dict[int, int] = field(default_factory=dict)
    publisher: LetterPublisher = field(init=False)
    outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        self.publisher = LetterPublisher(self.broker, self.site)
        self.outage = Outage("dead-letter stream", log)

    def report(self, partition: int, number: int, cause: str = "") -> None:
        """Show how many letters of a partition the stream has refused, and why."""
        self.undelivered[partition] = number
        total = sum(self.undelivered.values())
        metrics.UNDELIVERED_LETTERS.set(total)
        if cause:
            metrics.INTERRUPTIONS.labels(Refused.cause).inc()
            self.outage.failed(cause, undelivered=total)
        elif not total:
            self.outage.ended()

    def forget(self, partition: int) -> None:
        """Leave a partition, and what it owes, to its next owner."""
        self.undelivered.pop(partition, None)
        metrics.UNDELIVERED_LETTERS.set(sum(self.undelivered.values()))


class DeadLetters:
    """The sender of one partition, under one lease."""

    def __init__(self, context: LetterContext, lease: Lease) -> None:
        self._context = context
        self._lease = lease
        self._fresh: list[OwedLetter] = []
        self._reads_outbox = True
        self._missed = False
        self._retry_at: float | None = None
        self._is_sending = False
        self._is_closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Send what former leases owe, and then what is added."""
        self._task = asyncio.create_task(self._run())

    def add(self, letters: Sequence[OwedLetter]) -> None:
        """Send letters that have just been written; beyond a bound they are read from the outbox, in their turn."""
        if not letters:
            return
        if self._reads_outbox or len(self._fresh) >= self._context.limits.outbox_page:
            self._reads_outbox = self._missed = True
        else:
            self._fresh += letters
        self._wake.set()

    async def close(self) -> None:
        """End; what is being sent has a moment to be acknowledged. The next owner sends the rest."""
        self._is_closing = True
        self._wake.set()
        if self._task is not None:
            if self._is_sending:
                await asyncio.wait({self._task}, timeout=_CLOSE_S)
            await cancel_and_wait(self._task)
        self._context.forget(self._lease.partition)

    async def _run(self) -> None:
        backoff = Backoff(0.5, self._context.limits.denied_retry_s)
        while not self._is_closing:
            try:
                skipped = await self._send_some()
            except TransientError as error:
                await self._on_refusal(str(error))
                await asyncio.sleep(backoff.next())
                continue
            except Exception as error:  # noqa: BLE001 - letters must not end because of one of them
                await self._on_refusal(where(error))
                await asyncio.sleep(backoff.next())
                continue
            if skipped:
                self._retry_at = monotonic() + backoff.next()
            elif self._retry_at is None:
                backoff.reset()
                self._context.report(self._lease.partition, 0)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until there are letters to send, or some to try again."""
        while not (self._fresh or self._reads_outbox or self._is_closing):
            self._wake.clear()
            left = None if self._retry_at is None else max(self._retry_at - monotonic(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            if self._retry_at is not None and monotonic() >= self._retry_at:
                self._reads_outbox, self._retry_at = True, None

    async def _send_some(self) -> bool:
        """Send the letters in memory, or those in the outbox; True: some are too large for the stream."""
        self._is_sending = True
        try:
            if self._fresh and not self._reads_outbox:
                letters, self._fresh = self._fresh, []
                skipped = await self._send(letters)
            else:
                self._fresh.clear()
                skipped = await self._send_outbox()
            if skipped:
                await self._show(f"{skipped[0]}: even when cut")
            return bool(skipped)
        finally:
            self._is_sending = False

    async def _send_outbox(self) -> list[TooLarge]:
        context, after, skipped = self._context, "", list[TooLarge]()
        while True:
            self._missed = False
            page = await stored.owed_letters(context.database, self._lease, after, context.limits.outbox_page)
            if not page and not self._missed:
                self._reads_outbox = False
                return skipped
            if page and not after:
                await context.publisher.look_at_stream()
            skipped += await self._send(page)
            after = page[-1].id if page else after

    async def _send(self, letters: Sequence[OwedLetter]) -> list[TooLarge]:
        """Publish letters in order, and delete what was taken; return the errors of those that are too large."""
        skipped: list[TooLarge] = []
        self._context.broker.last_denials.pop("dead_letter", None)
        for start in range(0, len(letters), _AT_ONCE):
            some = letters[start : start + _AT_ONCE]
            outcomes = await asyncio.gather(*map(self._context.publisher.publish, some), return_exceptions=True)
            taken = [letter.id for letter, outcome in zip(some, outcomes, strict=True) if outcome is None]
            await stored.delete_letters(self._context.database, taken)
            for outcome in outcomes:
                if isinstance(outcome, TooLarge):
                    skipped += [outcome]
                elif outcome is not None:
                    raise outcome
        return skipped

    async def _on_refusal(self, cause: str) -> None:
        self._fresh.clear()
        self._reads_outbox = True
        await self._show(cause)

    async def _show(self, cause: str) -> None:
        number = 1
        with suppress(TransientError):
            number = await stored.count_letters(self._context.database, [self._lease.id])
        self._context.report(self._lease.partition, number, cause)
