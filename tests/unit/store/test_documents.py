"""Documents that other systems wrote: reading them never raises, whatever they contain."""

import math
from typing import Any

import pytest
from pydantic_core import PydanticSerializationError

from roomkeys.decisions.decision import OutboxEntry, Outcome
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.membership import Member
from roomkeys.subjects import Operation
from store import documents
from store.writes.outbox import StoredEntry, entry_document

SECRET = bytes(range(32))


@pytest.mark.parametrize("version", [math.nan, math.inf, -math.inf, -1, 2**60, 1e300, "7", None, [], 7.5])
def test_invalid_version_is_ignored(version: Any) -> None:
    record = documents.key_record({"_id": "r1", "encKey": {"priv": SECRET, "ver": version}})
    assert record == KeyRecord()


def test_whole_double_is_a_version() -> None:
    record = documents.key_record({"_id": "r1", "encKey": {"priv": SECRET, "ver": 7.0}})
    assert (record.highest_seen, record.current, record.replaced) == (7, None, (RoomKey(7, SECRET),))


@pytest.mark.parametrize("rotation", [None, {}, {"high": None}, "nonsense", 5, []])
def test_malformed_key_rotation_is_an_empty_record(rotation: Any) -> None:
    assert documents.key_record({"_id": "r1", "keyRotation": rotation}) == KeyRecord()


@pytest.mark.parametrize("who", [None, "bob", {}, {"account": 5}, {"_id": "u"}])
def test_membership_without_an_account_is_ignored(who: Any) -> None:
    assert documents.member({"_id": "s1", "roomId": "r1", "u": who, "roles": ["member"]}) is None


def test_own_key_is_current_only_while_it_is_in_use() -> None:
    ours = {"ver": 3, "priv": SECRET}
    rotation = {"high": 3, "settled": 3, "current": ours}
    assert documents.key_record({"_id": "r1", "encKey": ours, "keyRotation": rotation}).current == RoomKey(3, SECRET)
    lost = documents.key_record({"_id": "r1", "keyRotation": rotation})
    assert (lost.current, lost.replaced, lost.highest_seen) == (None, (RoomKey(3, SECRET),), 3)


@pytest.mark.parametrize(("ours", "foreign"), [(None, 7), (3, 7), (3, 4), (3, 3), (3, 2), (3, None)])
def test_record_read_back_with_a_staged_key_replaces_the_same_keys(ours: int | None, foreign: int | None) -> None:
    """After a crash, a foreign key that messages were sealed with must stay fetchable too."""
    rotation: dict[str, Any] = {} if ours is None else {"high": ours, "current": {"ver": ours, "priv": SECRET}}
    room: dict[str, Any] = {"_id": "r1", "keyRotation": rotation}
    if foreign is not None:
        room["encKey"] = {"ver": foreign, "priv": bytes(32)}
    before = documents.key_record(room)
    staged = RoomKey(before.next_version(0), SECRET[::-1])
    rotation |= {"high": staged.version, "staged": documents.key_document(staged)}
    read_back = documents.key_record(room)
    assert read_back.replaced == before.with_staged(staged).replaced
    assert read_back.next_version(0) == before.with_staged(staged).next_version(0)


def test_foreign_key_with_a_version_yet_to_be_staged_is_dropped() -> None:
    ours, foreign = {"ver": 3, "priv": SECRET}, {"ver": 5, "priv": bytes(32)}
    rotation = {"high": 5, "current": ours, "staged": {"ver": 4, "priv": SECRET[::-1]}}
    record = documents.key_record({"_id": "r1", "encKey": foreign, "keyRotation": rotation})
    assert record.replaced == (RoomKey(3, SECRET),)


def test_membership_with_foreign_id_and_roles_is_read() -> None:
    stored = {"_id": 5, "roomId": "r1", "u": {"_id": "u-bob", "account": "bob"}, "roles": [None, "owner", 7]}
    assert documents.member(stored) == Member(5, "u-bob", "bob", ("owner",))


@pytest.mark.filterwarnings("ignore")
def test_outbox_entry_that_could_not_be_read_back_is_not_written() -> None:
    """An error while writing costs one event; one while reading would stop the partition for good."""
    odd: Any = Member("s1", "u1", account=5)  # type: ignore[arg-type]  # as from a document
    outcome = Outcome(1, Operation.REMOVE, 0, removed=(odd,))
    with pytest.raises(PydanticSerializationError):
        entry_document(StoredEntry("x", OutboxEntry("r1", (outcome,))))
