"""Documents of other systems: whatever they hold, reading them raises nothing."""

import math
from typing import Any

import pytest

from roomkeys.keys import KeyRecord, RoomKey
from store import documents

SECRET = bytes(range(32))


@pytest.mark.parametrize("version", [math.nan, math.inf, -math.inf, -1, 2**60, 1e300, "7", None, [], 7.5])
def test_a_version_that_is_none_counts_for_nothing(version: Any) -> None:
    record = documents.key_record({"_id": "r1", "encKey": {"priv": SECRET, "ver": version}})
    assert record == KeyRecord()


def test_a_whole_double_is_a_version() -> None:
    record = documents.key_record({"_id": "r1", "encKey": {"priv": SECRET, "ver": 7.0}})
    assert (record.seen, record.current, record.replaced) == (7, None, (RoomKey(7, SECRET),))


@pytest.mark.parametrize("rotation", [None, {}, {"high": None}, "nonsense", 5, []])
def test_a_record_that_is_none_of_ours_is_no_record(rotation: Any) -> None:
    assert documents.key_record({"_id": "r1", "keyRotation": rotation}) == KeyRecord()


@pytest.mark.parametrize("who", [None, "bob", {}, {"account": 5}, {"_id": "u"}])
def test_a_membership_without_an_account_is_nobodys(who: Any) -> None:
    assert documents.member({"_id": "s1", "u": who, "roles": ["member"]}) is None


def test_our_own_key_is_current_only_while_it_is_in_use() -> None:
    ours = {"ver": 3, "priv": SECRET}
    rotation = {"high": 3, "settled": 3, "current": ours}
    assert documents.key_record({"_id": "r1", "encKey": ours, "keyRotation": rotation}).current == RoomKey(
        3, SECRET
    )
    lost = documents.key_record({"_id": "r1", "keyRotation": rotation})
    assert (lost.current, lost.replaced, lost.seen) == (None, (RoomKey(3, SECRET),), 3)
