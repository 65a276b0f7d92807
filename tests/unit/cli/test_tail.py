"""What `room-worker tail` shows of keys and of subscription updates."""

from base64 import b64encode

import pytest

from roomkeys.client.keyring import HeldKey
from roomkeys.keys import RoomKey
from worker.cli.tail import key_line, update_line


def test_key_is_shown_by_its_fingerprint_only() -> None:
    key = RoomKey.generate(3)
    line = key_line(HeldKey("r1", key))
    assert (line["type"], line["roomId"], line["version"], len(line["fingerprint"])) == ("key", "r1", 3, 8)
    shown = str(line)
    assert b64encode(key.secret).decode() not in shown
    assert key.secret.hex()[:8] not in shown
    assert key_line(HeldKey("r1", RoomKey.generate(3)))["fingerprint"] != line["fingerprint"]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"action":"added","subscription":[]}'])
def test_malformed_update_is_shown_as_unreadable(data: bytes) -> None:
    assert update_line(data)["type"] == "unreadable"
