"""Rights: which of them the permissions of a NATS user deny."""

from typing import Any

import pytest

from worker.broker.permissions.rights import Right, is_denied

KEY = Right("chat.user.*.event.room.key", "chat.user.nobody.event.room.key")
REQUEST = Right("chat.request", "chat.request", is_publish=False)


@pytest.mark.parametrize(
    ("right", "permissions", "expected"),
    [
        (KEY, {}, False),
        (KEY, {"publish": {}, "subscribe": {"deny": [">"]}}, False),
        (KEY, {"publish": {"deny": ["chat.user.*.event.room.key"]}}, True),
        (KEY, {"publish": {"deny": ["chat.user.bob.event.room.key"]}}, False),
        (KEY, {"publish": {"deny": ["chat.>"]}}, True),
        (KEY, {"publish": {"deny": ["chat"]}}, False),
        (KEY, {"publish": {"deny": ["chat.user.nobody.event.room.key.>"]}}, False),
        (KEY, {"publish": {"allow": []}}, True),
        (KEY, {"publish": {"allow": ["chat.user.*.event.*.key"]}}, False),
        (KEY, {"publish": {"allow": ["chat.user.*.event.room"]}}, True),
        (KEY, {"publish": {"allow": [">"], "deny": ["*.*.*.*.*.key"]}}, True),
        (REQUEST, {"subscribe": {"allow": ["chat.request queue"]}}, False),
    ],
)
def test_right_is_denied_as_the_broker_denies_it(right: Right, permissions: dict[str, Any], *, expected: bool) -> None:
    assert is_denied(right, permissions) is expected
