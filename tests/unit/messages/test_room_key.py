"""The payload of a key is serialised once and the same for every account. (docs/contract.md, section 2)"""

from base64 import b64decode

import orjson
import pytest

from roomkeys.errors import Rejection
from roomkeys.keys import RoomKey
from roomkeys.messages import room_key as payload_module
from roomkeys.messages.room_key import RoomKeyEvent, Sender, marshal

AT = 1_747_000_000_000
EVENT = RoomKeyEvent("r1", RoomKey(3, bytes(range(32))))
BYTES = (
    b'{"roomId":"r1","version":3,"privateKey":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","timestamp":1747000000000}'
)


class Wire:
    """Records what is published. Its clock advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.looks = 0
        self.sender = Sender(self.publish, self.now_ms)

    async def publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))

    def now_ms(self) -> int:
        self.looks += 1
        return AT + (self.looks - 1) * 1_000


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_payload_has_exact_bytes() -> None:
    assert marshal(EVENT, AT) == BYTES


def test_key_is_standard_base64_with_padding() -> None:
    event = RoomKeyEvent("r1", RoomKey(0, b"\xfb\xff" * 16))
    text = orjson.loads(marshal(event, AT))["privateKey"]
    assert text == "+//7//v/+//7//v/+//7//v/+//7//v/+//7//v/+/8="
    assert b64decode(text, validate=True) == event.key.secret


def test_room_id_outside_ascii_is_utf_8() -> None:
    assert '{"roomId":"房間",'.encode() in marshal(RoomKeyEvent("房間", EVENT.key), AT)


def test_marshal_serialises_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Counting:
        @staticmethod
        def dumps(document: object) -> bytes:
            calls.append(document)
            return orjson.dumps(document)

    monkeypatch.setattr(payload_module, "orjson", Counting)
    wire.sender.marshal(EVENT)
    assert (len(calls), wire.looks) == (1, 1)


def test_marshal_does_not_change_the_event(wire: Wire) -> None:
    wire.sender.marshal(EVENT)
    assert marshal(EVENT, AT) == BYTES


async def test_every_account_is_sent_the_same_bytes(wire: Wire) -> None:
    marshalled = wire.sender.marshal(EVENT)
    for account in ("alice", "陳愛麗", "p_app"):
        await wire.sender.send_data(account, marshalled)
    assert wire.published == [
        ("chat.user.alice.event.room.key", BYTES),
        ("chat.user.陳愛麗.event.room.key", BYTES),
        ("chat.user.p_app.event.room.key", BYTES),
    ]
    assert all(payload is marshalled for _, payload in wire.published)
    assert wire.looks == 1


async def test_send_serialises_and_publishes(wire: Wire) -> None:
    await wire.sender.send("alice", EVENT)
    assert wire.published == [("chat.user.alice.event.room.key", BYTES)]


@pytest.mark.parametrize("account", ["", "a b", "x.y", "*", ">", "a\r\nPUB x 0\r\n", "helper.bot", "a" * 256])
async def test_nothing_is_published_to_an_account_that_is_not_a_token(wire: Wire, account: str) -> None:
    with pytest.raises(Rejection) as refused:
        await wire.sender.send_data(account, BYTES)
    with pytest.raises(Rejection):
        await wire.sender.send(account, EVENT)
    assert wire.published == []
    assert (refused.value.info.code, refused.value.info.reason) == ("bad_request", "invalid_account")
    assert not account or account not in refused.value.info.text
