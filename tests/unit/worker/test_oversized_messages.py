"""Messages that are framed here: what would forge a line of the protocol, or is too large, is left out."""

import pytest

from worker.broker.connection import Broker
from worker.broker.nats_client import SteadyClient

FORGED = "x 0\r\n\r\nPUB chat.user.mallory.event.room.key"


@pytest.mark.parametrize(
    ("subject", "headers", "left_out"),
    [
        ("chat.room.r1.event.member", {"X-Request-ID": "one"}, False),
        ("chat.room.r\u00e9.event.member", {}, False),
        (f"chat.user.alice.response.{FORGED}", {}, True),
        ("chat.room.r 1.event.member", {}, True),
        ("chat.room.r\t1.event.member", {}, True),
        ("chat.room.r1.event.member", {"X-Request-ID": "one\r\nX-Other: two"}, True),
    ],
)
async def test_what_would_forge_a_line_is_left_out(subject: str, headers: dict[str, str], *, left_out: bool) -> None:
    assert Broker(SteadyClient(), 10.0).rejects(subject, b"{}", headers) is left_out


async def test_what_is_larger_than_the_broker_takes_is_left_out() -> None:
    broker = Broker(SteadyClient(), 10.0)
    assert not broker.rejects("a.b", bytes(broker.room_for_body({"X": "1"})), {"X": "1"})
    assert broker.rejects("a.b", bytes(broker.room_for_body({"X": "1"}) + 1), {"X": "1"})
