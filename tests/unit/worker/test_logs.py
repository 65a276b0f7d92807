"""Logs: structured, in reading order, and without anything that could be a key."""

import io
from base64 import b64encode
from contextlib import suppress

import orjson
import pytest
from structlog import DropEvent

from roomkeys.errors import Refused
from roomkeys.keys import RoomKey
from worker.telemetry import logs

SECRET = bytes(range(32))


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    return stream


def test_a_line_is_json_with_the_time_and_the_event_first(lines: io.StringIO) -> None:
    logs.logger("test").info("something happened", partition=3)
    document = orjson.loads(lines.getvalue())
    assert list(document) == ["timestamp", "level", "component", "event", "partition"]
    assert (document["event"], document["component"], document["partition"]) == ("something happened", "test", 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": SECRET.hex()},
        {"encKey": {"priv": b64encode(SECRET).decode()}},
        {"found": [{"document": {"privateKey": SECRET.hex()}}]},
        {"anything": SECRET},
        {"nested": ({"raw": bytearray(SECRET)},)},
        {"key": RoomKey(3, SECRET)},
        {"object": RoomKey(3, SECRET)},
    ],
)
def test_whatever_could_be_a_key_is_masked(lines: io.StringIO, fields: dict[str, object]) -> None:
    logs.logger("test").error("failed", **fields)
    for shape in (SECRET.hex(), b64encode(SECRET).decode(), repr(SECRET)[2:-1]):
        assert shape not in lines.getvalue()


def test_an_error_is_described_by_its_place_and_never_by_somebody_elses_text() -> None:
    def fail(error: Exception) -> str:
        with pytest.raises(type(error)) as caught:
            raise error
        return logs.where(caught.value)

    assert "test_logs.py" in fail(ValueError(SECRET.hex()))
    assert SECRET.hex() not in fail(ValueError(SECRET.hex()))
    assert fail(Refused("OperationFailure 134")).startswith("Refused: OperationFailure 134 at ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://localhost:4222", "nats://localhost:4222"),
        ("nats://joe:secret@host:4222", "nats://host:4222"),
        ("mongodb://joe:se?cr/et@a:1,b:2/db?replicaSet=rs0", "mongodb://a:1,b:2"),
        ("mongodb://a/?replicaSet=rs0", "mongodb://a"),
    ],
)
def test_server_of_a_url_has_no_user_and_no_password(url: str, shown: str) -> None:
    assert logs.server_of(url) == shown


def test_lines_of_one_event_are_bounded_and_the_next_one_says_how_many_were_dropped() -> None:
    now = 100.0
    limit = logs.LineLimit(burst=3, clock=lambda: now)

    def written(event: str, times: int) -> list[int]:
        """Return the `suppressed` counts of the lines that were not dropped."""
        lines = []
        for _ in range(times):
            with suppress(DropEvent):
                lines.append(limit(None, "info", {"component": "test", "event": event}).get("suppressed", 0))
        return lines

    assert written("flood", 1_000) == [0, 0, 0]
    assert written("other", 1) == [0], "one event does not use up the lines of another"
    now += 2.0
    assert written("flood", 1_000) == [997, 0]
    now += 1_000.0
    assert written("flood", 4) == [998, 0, 0]


def test_a_flood_of_one_event_leaves_few_lines(lines: io.StringIO) -> None:
    for number in range(10_000):
        logs.logger("test").warning("flood", number=number)
    assert len(lines.getvalue().splitlines()) < 100
