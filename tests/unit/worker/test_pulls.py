"""How much a consumer requests at once."""

import pytest

from worker.broker.jetstream.pulls import Pulls, delivery_of
from worker.limits import Limits

MIB = 1024 * 1024
LIMITS = Limits(pull_messages=512, pull_bytes=8 * MIB)


@pytest.mark.parametrize(
    ("config", "pulls"),
    [
        ({}, Pulls(512, 1, 8 * MIB, 30.0)),
        ({"max_batch": 0, "max_waiting": 512}, Pulls(512, 1, 8 * MIB, 30.0)),
        ({"max_batch": 1_000}, Pulls(512, 1, 8 * MIB, 30.0)),
        ({"max_batch": 200}, Pulls(200, 2, 4 * MIB, 30.0)),
        ({"max_batch": 1}, Pulls(1, 4, 2 * MIB, 30.0)),
        ({"max_batch": 1, "max_waiting": 4}, Pulls(1, 2, 4 * MIB, 30.0)),
        ({"max_waiting": 1}, Pulls(512, 1, 8 * MIB, 30.0)),
        ({"max_bytes": 1_000}, Pulls(512, 1, 1_000, 30.0)),
        ({"max_expires": 5_000_000_000}, Pulls(512, 1, 8 * MIB, 5.0)),
    ],
)
def test_requests_stay_within_the_consumers_limits(config: dict[str, int], pulls: Pulls) -> None:
    assert Pulls.within(config, LIMITS, max_payload=MIB) == pulls


def test_one_request_takes_two_of_the_largest_messages() -> None:
    assert Pulls.within({}, LIMITS, max_payload=64 * MIB) == Pulls(512, 1, 128 * MIB, 30.0)


@pytest.mark.parametrize(
    ("reply", "delivery"),
    [
        ("$JS.ACK.ROOMS_x.abc.1.7.3.1700000000000000001.0", (7, 3, 1_700_000_000_000_000_001, 0)),
        ("$JS.ACK.hub.AHASH.ROOMS_x.abc.1.7.3.1700000000000000001.0.token", (7, 3, 1_700_000_000_000_000_001, 0)),
        ("$JS.ACK.ROOMS_x.other.1.7.3.1700000000000000001.0", None),
        ("$JS.ACK.ROOMS_x.abc.1.x.3.1700000000000000001.0", None),
        ("$JS.ACK.ROOMS_x.abc", None),
        ("", None),
    ],
)
def test_delivery_is_read_from_the_reply_address(reply: str, delivery: tuple[int, int, int, int] | None) -> None:
    assert delivery_of(reply, "abc") == delivery
