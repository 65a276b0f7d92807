"""Dead letters: what their stream refuses stays owed, is visible, and holds up nobody."""

from contextlib import suppress
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

from roomkeys import subjects
from store.writes.outbox import OUTBOX
from tests.harness import events
from tests.harness.polling import until, until_equal
from tests.harness.processes import run, variables
from tests.harness.site import Rig
from worker.telemetry import metrics

CREATE = events.create("r1", "bob")
BAD = {"roomId": "r1", "requester": "alice", "account": 7, "padding": "x" * 5_000}
"""A removal that names no account."""

FULL: dict[str, Any] = {"max_msgs": 1, "discard": DiscardPolicy.NEW}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "full": (FULL, "maximum messages exceeded (JetStream error 10077)"),
    "no ack": ({"no_ack": True}, "acknowledges no message (no_ack)"),
    "sealed": ({"sealed": True}, "sealed"),
    "too large even when cut": ({"max_msg_size": 10}, "message size exceeds maximum allowed"),
    "deleted": ({}, "does not exist"),
}


class Letters:
    """The dead-letter stream of a site."""

    def __init__(self, made: Rig) -> None:
        self.made = made
        self.name, self.subject = subjects.dead_letter_stream(made.site), subjects.dead_letter_subject(made.site)
        self._jetstream = made.nc.jetstream()

    async def make(self, **config: Any) -> None:
        """Make the stream again, empty."""
        await self.delete()
        sealed = config.pop("sealed", False)
        made = self.config(**config)
        await self._jetstream.add_stream(made)
        if config.get("max_msgs"):
            await self._jetstream.publish(self.subject, b"{}")
        if sealed:
            await self._jetstream.update_stream(StreamConfig(**{**made.__dict__, "sealed": True}))

    def config(self, **config: Any) -> StreamConfig:
        return StreamConfig(name=self.name, subjects=[self.subject], duplicate_window=600, **config)

    async def delete(self) -> None:
        with suppress(NotFoundError):
            await self._jetstream.delete_stream(self.name)

    async def stored(self) -> list[tuple[str, bytes]]:
        """Return the id and the body of each letter that the stream has."""
        info = await self._jetstream.stream_info(self.name)
        found = [await self._jetstream.get_msg(self.name, at) for at in range(1, info.state.last_seq + 1)]
        return [(message.headers["Nats-Msg-Id"], message.data or b"") for message in found if message.headers]

    async def owed(self) -> int:
        return int(await self.made.db[OUTBOX].count_documents({"letter": {"$exists": True}}))


@pytest.fixture
async def letters(site_rig: Rig) -> Letters:
    site_rig.settings = site_rig.settings.model_copy(update={"partitions": 1})
    site_rig.limit(denied_retry_s=0.2)
    await site_rig.users("alice", "bob", "carol")
    return Letters(site_rig)


@pytest.mark.parametrize(("config", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_refused_letter_is_owed_and_visible_and_holds_up_nobody(
    letters: Letters, config: dict[str, Any], words: str
) -> None:
    made = letters.made
    await letters.make(**config)
    with capture_logs() as lines:
        async with made.worker():
            await made.until_owned()
            if not config:
                await letters.delete()
            asked = [await made.publish("create", CREATE), await made.publish("member.remove", BAD)]
            asked += [await made.publish("member.add", events.add("r1", "carol"))]
            asked += [await made.publish("create", events.create("r2", "bob"))]
            results = [await made.result(request_id, 10) for request_id in asked]
            assert [result["status"] for result in results] == ["ok", "error", "ok", "ok"]
            assert (await made.room("r1"))["encKey"]["ver"] == 0
            notices = made.of("chat.user.bob.event.subscription.update")
            assert len(notices) == 2, "one for each room"
            await until(lambda: any(words in str(line.get("cause")) for line in lines), lambda: lines)
            assert metrics.UNDELIVERED_LETTERS._value.get() == 1
            if config:
                report = (await run("status", "--json", env=variables(made, PARTITIONS="1"))).json()
                assert report["undeliveredLetters"] == 1
            assert (await made.ask("key.rotate", events.rotate("r1")))["status"] == "ok"
            assert await letters.owed() == 1
            await letters.make()
            await until_equal(letters.owed, 0)
            assert [id_ for id_, _ in await letters.stored()] == [f"{subjects.events_stream(made.site)}:2"]
            await until(lambda: metrics.UNDELIVERED_LETTERS._value.get() == 0)


async def test_letter_is_cut_to_the_size_that_its_stream_takes(letters: Letters) -> None:
    await letters.make(max_msg_size=1_000)
    async with letters.made.worker():
        assert (await letters.made.ask("member.remove", BAD))["status"] == "error"
        assert (await letters.made.ask("create", CREATE))["status"] == "ok"
        (letter,) = await letters.made.until(lambda: [
            item for item in letters.made.received
            if item.subject == letters.subject and item.headers.get("Room-Worker-Truncated")
        ])  # fmt: skip
    assert 300 < len(letter.raw) < 1_000
    assert b"padding" in letter.raw
    assert await letters.owed() == 0


async def test_letter_is_not_cut_any_more_once_its_stream_takes_it_whole(letters: Letters) -> None:
    made = letters.made
    await letters.make(max_msg_size=1_000)
    async with made.worker():
        for size in (1_000, -1):
            await letters.made.nc.jetstream().update_stream(letters.config(max_msg_size=size))
            await made.ask("member.remove", BAD)
            await until_equal(letters.owed, 0)
    bodies = [body for _, body in await letters.stored()]
    assert [len(body) > 5_000 for body in bodies] == [False, True]


async def test_owed_letters_go_out_in_order_after_a_takeover(letters: Letters) -> None:
    made = letters.made
    await letters.make(**FULL)
    async with made.worker():
        for _ in range(3):
            await made.ask("member.remove", BAD)
    assert await letters.owed() == 3
    made.limit(outbox_page=2)
    async with made.worker():
        await made.ask("member.remove", BAD)
        await letters.make()
        await until_equal(letters.owed, 0)
    stream = subjects.events_stream(made.site)
    assert [id_ for id_, _ in await letters.stored()] == [f"{stream}:{number}" for number in (1, 2, 3, 4)]


async def test_letter_too_large_for_its_stream_holds_up_no_other_letter(letters: Letters) -> None:
    made = letters.made
    await letters.make(max_msg_size=400)
    long = f"{'x' * 200}.member.remove"
    async with made.worker():
        await made.publish(long, BAD)
        await made.ask("member.remove", BAD)
        await until(lambda: any(item.headers.get("Room-Worker-Sequence") == "2" for item in made.received))
        await until_equal(letters.owed, 1)
    assert [id_ for id_, _ in await letters.stored()] == [f"{subjects.events_stream(made.site)}:2"]


async def test_letters_of_two_incarnations_of_the_events_stream_are_both_stored(letters: Letters) -> None:
    made, jetstream = letters.made, letters.made.nc.jetstream()
    await letters.make()
    stream = subjects.events_stream(made.site)
    before = metrics.DEAD_LETTERS.labels("invalid_event")._value.get()
    for _ in range(2):
        async with made.worker():
            await made.ask("member.remove", BAD)
        await jetstream.delete_stream(stream)
        await jetstream.add_stream(StreamConfig(name=stream, subjects=[subjects.events_subjects(made.site)]))
    stored = await letters.stored()
    assert stored[0][0] == f"{stream}:1"
    assert len(stored) == 2
    assert stored[0][1] == stored[1][1]
    assert metrics.DEAD_LETTERS.labels("invalid_event")._value.get() == before + 2


async def test_letter_that_was_taken_before_a_crash_is_stored_once(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = letters.made
    await letters.make()

    async def crash(*_args: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr("store.writes.letters.delete_letters", crash)
        async with made.worker():
            await made.ask("member.remove", BAD)
            await made.until(lambda: made.of(letters.subject))
    assert await letters.owed() == 1
    async with made.worker():
        await until_equal(letters.owed, 0)
    assert len(await letters.stored()) == 1


async def test_letters_of_an_entry_that_an_older_version_wrote_go_out(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = letters.made
    await letters.make()
    with monkeypatch.context() as older:
        older.setattr("store.writes.apply.letters_of", lambda *_: [])
        older.setattr("store.writes.apply.without_letters", lambda entry: entry)
        older.setattr("worker.pipeline.loop.letters_of", lambda *_: [])
        older.setattr("worker.pipeline.writer.Writer.delete_finished", _do_nothing)
        async with made.worker():
            await made.ask("member.remove", BAD)
    assert await letters.stored() == []
    async with made.worker():
        await made.until(lambda: made.of(letters.subject))
    assert len(await letters.stored()) == 1


async def _do_nothing(*_args: Any) -> None:
    """Stand for a worker that dies before it deletes what it has finished."""
