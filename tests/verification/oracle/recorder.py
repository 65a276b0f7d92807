"""The recorder: listens to a run of the worker from outside, to the broker, the streams and the database.

    async with recorder([nats_url], db, site) as record:
        …                                    # a run; servers may be killed
        recording = await record.finish()    # waits until everything that is expected has come
    assert judge(recording) == []

It begins while the site is quiet: what the streams hold by then has been applied, or no worker ever ran. In a
cluster it is given the address of every node, since a node confirms what its own clients have been sent. After
the last fault of a run every room should be rotated once more: what went out in a gap is not missed by the judge.
A broker drops a listener that is slow, which is a gap too: where a million keys go out at once its `max_pending`
and `write_deadline` have to be large.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from pymongo.errors import PyMongoError

from roomkeys import subjects
from tests.verification.oracle import classify, documents
from tests.verification.oracle.listener import Ear, listening
from tests.verification.oracle.oplog import Oplog
from tests.verification.oracle.recording import EVERYTHING, Event, Kind, Recording
from tests.verification.oracle.shape import is_request_id, read
from tests.verification.oracle.streams import last_sequence, read_events, read_letters

PATIENCE = 60.0


class Recorder:
    """Records one site; made by `recorder`."""

    def __init__(self, recording: Recording, db: Any, oplog: Oplog) -> None:
        self.recording = recording
        self._db = db
        self._oplog = oplog
        self._ears: list[Ear] = []
        self._waiting: dict[str, int] = {}
        self._answered: set[str] = set()
        self._moved = asyncio.Event()

    async def listen(self, stack: AsyncExitStack, number: int, url: str) -> None:
        """Listen on a node until the stack unwinds."""
        self._ears.append(await stack.enter_async_context(listening(number, url, self.hear, self.recording.gaps)))

    async def find_since(self) -> None:
        """Find the last event that was applied before the recording began: none where no worker ever ran."""
        if await self._db.room_worker_cursors.count_documents({"site": self.recording.site}):
            stream = subjects.events_stream(self.recording.site)
            self.recording.since = await last_sequence(self._ears[0].client, stream)

    def hear(self, ear: int, subject: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        """Take a message from an ear."""
        if classify.is_in_stream(subject):
            self._expect(subject, data, headers or {})
            return
        heard = classify.note(self.recording, ear, subject, data, headers, classify.now_ms())
        if heard is not None and heard.kind is Kind.RESULT:
            request_id = subject.rpartition(".")[2]
            self._answered.add(request_id)
            self._waiting.pop(request_id, None)
            self._moved.set()

    def _expect(self, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
        request_id = headers.get("X-Request-ID")
        asked = read(Event(0, 0, subject, data)) if is_request_id(request_id) else None
        if request_id not in self._answered and asked is not None and asked.requester is not None:
            self._waiting[str(request_id)] = classify.now_ms()

    def missing(self) -> list[str]:
        """Return the requests whose result has not come, though it cannot have been missed."""
        if Kind.RESULT not in self.recording.kinds:
            return []
        last = max((gap.until_ms for gap in self.recording.gaps), default=0)
        return [request_id for request_id, at_ms in self._waiting.items() if at_ms > last]

    async def until_quiet(self, patience: float = PATIENCE) -> None:
        """Wait until every result has come that can be expected, no key is staged and the outbox is empty."""
        try:
            async with asyncio.timeout(patience):
                while self.missing():
                    self._moved.clear()
                    with suppress(TimeoutError):  # a gap that ends makes no sound
                        await asyncio.wait_for(self._moved.wait(), 1)
                while await self._unsettled():
                    _give_way()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            missing, left = self.missing(), await self._unsettled()
            text = f"{len(missing)} results are missing, such as {missing[:3]}; {left} are unsettled or owed"
            raise AssertionError(f"not quiet: {text}") from None

    async def _unsettled(self) -> int:
        """Return how many rooms have a key on its way and how many entries the outbox has."""
        try:
            staged = await self._db.rooms.count_documents({"keyRotation.staged": {"$exists": True}})
            return int(staged + await self._db.room_worker_outbox.count_documents({}))
        except PyMongoError:
            return -1

    async def finish(self, patience: float = PATIENCE) -> Recording:
        """Wait until all is quiet, read what remains, and return the recording."""
        await self.until_quiet(patience)
        return await self.read(patience)

    async def read(self, patience: float = PATIENCE) -> Recording:
        """Read what remains, quiet or not, and return the recording."""
        recording = self.recording
        async with asyncio.timeout(patience):
            await self._oplog.until_marked()
            await self.round_trip()
            while len(recording.heard_by) < len(recording.changes):  # noqa: ASYNC110 - `date` is at it
                await asyncio.sleep(0.02)
        await documents.read_after(self._db, recording)
        client = self._ears[0].client
        recording.events = await read_events(client, recording.site, recording.since)
        recording.letters = await read_letters(client, recording.site)
        return recording

    async def round_trip(self) -> None:
        """Return once everything that any node had taken before this call has been heard."""
        await asyncio.gather(*(ear.round_trip() for ear in self._ears))

    async def date(self) -> None:
        """Note for each change how many messages had arrived when all that was taken before it had, for ever."""
        recording = self.recording
        while True:
            seen = len(recording.changes)
            if seen == len(recording.heard_by):
                self._oplog.moved.clear()
                await self._oplog.moved.wait()
                continue
            await self.round_trip()
            heard = len(recording.ears)
            recording.heard_by.extend([heard] * (seen - len(recording.heard_by)))


def _give_way() -> None:
    """End here what was cancelled: the driver swallows a cancellation that comes as it has just sent a command."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def recorder(
    urls: Sequence[str], db: Any, site: str, kinds: Iterable[Kind] = EVERYTHING
) -> AsyncIterator[Recorder]:
    """Record a site for the length of the block; `kinds` keeps a long run's recording small."""
    recording = Recording(site, {}, began_ms=classify.now_ms(), kinds=frozenset(kinds))
    oplog = Oplog(db, recording)
    made = Recorder(recording, db, oplog)
    async with AsyncExitStack() as stack:
        for number, url in enumerate(urls):
            await made.listen(stack, number, url)
        await oplog.begin()
        await documents.read_people(db, recording)
        await documents.read_before(db, recording, oplog)
        await made.find_since()
        tasks = [asyncio.create_task(work) for work in (oplog.follow(), made.date())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for failure in ended:
                if isinstance(failure, Exception):
                    raise failure
