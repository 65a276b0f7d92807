"""The recorder of one site.

    async with recorder([nats_url], db, site) as record:
        …                                    # a run; servers may be killed
        recording = await record.finish()    # waits until everything that is expected has come
    assert find_violations(recording) == []

Start it while the site is idle: either every event in the stream has been applied, or no worker ever ran. In a
cluster give it the address of every node, because a node confirms what it has sent to its own clients. After the
last fault of a run rotate every room once more: the oracle does not miss what went out in a gap. The broker
drops a slow listener, which is a gap too; for a million keys at once set a large `max_pending` and
`write_deadline`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from pymongo.errors import PyMongoError

from roomkeys import subjects
from tests.verification.oracle.event_parser import is_request_id, parse
from tests.verification.oracle.recorder import classify, documents
from tests.verification.oracle.recorder.listener import Listener, listening
from tests.verification.oracle.recorder.oplog import Oplog
from tests.verification.oracle.recorder.streams import last_sequence, read_dead_letters, read_events
from tests.verification.oracle.recording import EVERY_KIND, Event, MessageKind, Recording

PATIENCE = 60.0


class Recorder:
    """Records one site; `recorder` makes it."""

    def __init__(self, recording: Recording, db: Any, oplog: Oplog) -> None:
        self.recording = recording
        self._db = db
        self._oplog = oplog
        self._listeners: list[Listener] = []
        self._unanswered: dict[str, int] = {}
        self._answered: set[str] = set()
        self._advanced = asyncio.Event()

    async def listen(self, stack: AsyncExitStack, number: int, url: str) -> None:
        """Listen to a node until the stack unwinds."""
        made = listening(number, url, self._receive, self.recording.gaps)
        self._listeners.append(await stack.enter_async_context(made))

    async def find_applied_before(self) -> None:
        """Find the last event that was applied before the recording; if no worker ever ran, it is none."""
        if await self._db.room_worker_cursors.count_documents({"site": self.recording.site}):
            stream = subjects.events_stream(self.recording.site)
            self.recording.applied_before = await last_sequence(self._listeners[0].client, stream)

    def _receive(self, listener: int, subject: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        if classify.is_in_stream(subject):
            self._expect_result(subject, data, headers or {})
            return
        message = classify.record(self.recording, listener, subject, data, headers, classify.now_ms())
        if message is not None and message.kind is MessageKind.RESULT:
            request_id = subject.rpartition(".")[2]
            self._answered.add(request_id)
            self._unanswered.pop(request_id, None)
            self._advanced.set()

    def _expect_result(self, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
        request_id = headers.get("X-Request-ID")
        parsed = parse(Event(0, 0, subject, data)) if is_request_id(request_id) else None
        if request_id not in self._answered and parsed is not None and parsed.requester is not None:
            self._unanswered[str(request_id)] = classify.now_ms()

    def missing_results(self) -> list[str]:
        """Return the requests whose result has not come although no listener can have missed it."""
        if MessageKind.RESULT not in self.recording.kinds:
            return []
        last = max((gap.until_ms for gap in self.recording.gaps), default=0)
        return [request_id for request_id, at_ms in self._unanswered.items() if at_ms > last]

    async def until_idle(self, patience: float = PATIENCE) -> None:
        """Wait until every expected result has come, no key is staged and the outbox is empty."""
        try:
            async with asyncio.timeout(patience):
                while self.missing_results():
                    self._advanced.clear()
                    with suppress(TimeoutError):  # nothing signals the end of a gap
                        await asyncio.wait_for(self._advanced.wait(), 1)
                while await self._unfinished():
                    _raise_if_cancelled()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            missing, left = self.missing_results(), await self._unfinished()
            text = f"{len(missing)} results are missing, such as {missing[:3]}; {left} keys or entries are unfinished"
            raise AssertionError(f"not idle: {text}") from None

    async def _unfinished(self) -> int:
        """Return the number of staged keys plus the number of outbox entries; -1: MongoDB is away."""
        try:
            staged = await self._db.rooms.count_documents({"keyRotation.staged": {"$exists": True}})
            return int(staged + await self._db.room_worker_outbox.count_documents({}))
        except PyMongoError:
            return -1

    async def finish(self, patience: float = PATIENCE) -> Recording:
        """Wait until the site is idle, read what remains, and return the recording."""
        await self.until_idle(patience)
        return await self.read(patience)

    async def read(self, patience: float = PATIENCE) -> Recording:
        """Read what remains, whether the site is idle or not, and return the recording."""
        recording = self.recording
        async with asyncio.timeout(patience):
            await self._oplog.until_marked()
            await self.round_trip()
            while len(recording.arrived_by) < len(recording.changes):  # noqa: ASYNC110 - `date_changes` appends
                await asyncio.sleep(0.02)
        await documents.read_after(self._db, recording)
        client = self._listeners[0].client
        recording.events = await read_events(client, recording.site, recording.applied_before)
        recording.dead_letters = await read_dead_letters(client, recording.site)
        return recording

    async def round_trip(self) -> None:
        """Return once everything that any node had taken before this call has arrived."""
        await asyncio.gather(*(listener.round_trip() for listener in self._listeners))

    async def date_changes(self) -> None:
        """Fill `arrived_by` for each change, until cancelled."""
        recording = self.recording
        while True:
            seen = len(recording.changes)
            if seen == len(recording.arrived_by):
                self._oplog.advanced.clear()
                await self._oplog.advanced.wait()
                continue
            await self.round_trip()
            arrived = len(recording.listeners)
            recording.arrived_by.extend([arrived] * (seen - len(recording.arrived_by)))


def _raise_if_cancelled() -> None:
    """Raise the cancellation that the driver swallows if it comes right after a command was sent."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def recorder(
    urls: Sequence[str], db: Any, site: str, kinds: Iterable[MessageKind] = EVERY_KIND
) -> AsyncIterator[Recorder]:
    """Record a site for the length of the block; with few `kinds` the recording of a long run stays small."""
    recording = Recording(site, {}, started_ms=classify.now_ms(), kinds=frozenset(kinds))
    oplog = Oplog(db, recording)
    made = Recorder(recording, db, oplog)
    async with AsyncExitStack() as stack:
        for number, url in enumerate(urls):
            await made.listen(stack, number, url)
        await oplog.begin()
        await documents.read_users(db, recording)
        await documents.read_before(db, recording, oplog)
        await made.find_applied_before()
        tasks = [asyncio.create_task(work) for work in (oplog.follow(), made.date_changes())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for failure in ended:
                if isinstance(failure, Exception):
                    raise failure
