"""Which version a room gets, and who is owed the current key. (docs/contract.md, sections 1, 2 and 5)"""

import pytest

from roomkeys.events.event import AnyEvent
from roomkeys.keys import KeyRecord, RoomKey
from tests.unit.builders import (
    AT,
    add,
    create,
    decided,
    only_change,
    only_outcome,
    remove,
    room,
    rotate,
    settled,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob"), user("carol"), user("dave")]
LOST = KeyRecord(high=7, settled=7, highest_seen=7)
FOREIGN = KeyRecord(high=7, settled=7, replaced=(RoomKey(12, b"f" * 32),), highest_seen=12)
FORGOTTEN = KeyRecord()
NEXT = {"lost": (LOST, 8), "foreign": (FOREIGN, 13), "forgotten": (FORGOTTEN, AT // 1000)}


@pytest.mark.parametrize("event", [remove("bob"), rotate(), rotate(reason="leaked")])
def test_removal_and_rotation_stage_the_next_version(event: AnyEvent) -> None:
    written = only_change(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event))
    assert (written.high, written.stage) == (4, 4)


def test_rotation_changes_no_member_and_sends_no_notice() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), rotate())
    outcome = only_outcome(decision)
    assert (outcome.error, outcome.added, outcome.removed, outcome.notice) == (None, (), (), None)
    assert decision.entries[0].joiners == ()


def test_add_does_not_rotate_and_owes_joiners_the_current_key() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), add("bob", "carol"))
    assert (only_change(decision).high, only_change(decision).stage) == (None, None)
    assert decision.entries[0].joiners == ("carol",)


def test_every_rotation_of_a_batch_raises_the_version_but_one_key_is_staged() -> None:
    before = snapshot(PEOPLE, room(), ["alice", "bob", "carol"])
    decision = decided(before, remove("bob"), remove("carol"), rotate())
    assert (only_change(decision).high, only_change(decision).stage) == (6, 6)


def test_room_created_and_rotated_in_one_batch_stages_only_the_last_version() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["bob", "carol"]), remove("bob"), rotate())
    assert (only_change(decision).high, only_change(decision).stage) == (2, 2)


def test_removal_of_nobody_does_not_raise_the_version() -> None:
    before = snapshot(PEOPLE, room(), ["alice", "bob"])
    assert only_change(decided(before, remove("bob"), remove("bob"))).high == 4


@pytest.mark.parametrize("state", NEXT)
@pytest.mark.parametrize("event", [add("carol"), remove("bob"), rotate(), create(users=["bob", "carol"])])
def test_room_without_a_current_key_gets_a_version_above_all_it_ever_used(state: str, event: AnyEvent) -> None:
    record, version = NEXT[state]
    decision = decided(snapshot(PEOPLE, room(keys=record), ["alice", "bob"]), event)
    assert (only_change(decision).high, only_change(decision).stage) == (version, version)


@pytest.mark.parametrize("state", NEXT)
def test_room_without_a_key_stages_one_key_for_two_adds_of_one_batch(state: str) -> None:
    record, version = NEXT[state]
    decision = decided(snapshot(PEOPLE, room(keys=record), ["alice"]), add("bob"), add("carol"))
    assert only_change(decision).stage == version


def test_room_that_lost_its_key_stays_unchanged_if_nobody_joins() -> None:
    assert decided(snapshot(PEOPLE, room(keys=LOST), ["alice", "bob"]), add("bob")).changes == ()


def test_repeated_create_of_a_room_that_lost_its_key_stages_a_new_one() -> None:
    decision = decided(snapshot(PEOPLE, room(keys=LOST), ["alice", "bob", "carol"]), create(users=["bob", "carol"]))
    assert only_change(decision).stage == 8


def test_rotation_only_raises_the_version_while_a_key_is_staged() -> None:
    record = settled(3).with_staged(RoomKey(4, b"s" * 32))
    written = only_change(decided(snapshot(PEOPLE, room(keys=record), ["alice", "bob"]), remove("bob")))
    assert (written.high, written.stage) == (5, None)


def test_joiners_are_owed_the_current_key_while_another_is_staged() -> None:
    record = settled(3).with_staged(RoomKey(4, b"s" * 32))
    (entry,) = decided(snapshot(PEOPLE, room(keys=record), ["alice"]), add("bob")).entries
    assert (entry.joiners, entry.high) == (("bob",), 4)


@pytest.mark.parametrize("record", [KeyRecord(), LOST, FOREIGN])
def test_joiners_are_owed_the_staged_key_if_it_is_the_only_one(record: KeyRecord) -> None:
    """The pass may have read the members before they joined. (docs/design.md, Large rooms)"""
    staged = record.with_staged(RoomKey(20, b"s" * 32))
    decision = decided(snapshot(PEOPLE, room(keys=staged), ["alice"]), add("bob"))
    assert only_change(decision).high is None
    assert decision.entries[0].joiners == ("bob",)


def test_new_room_stages_version_0_and_has_no_joiners() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["bob", "carol"]))
    assert decision.entries[0].joiners == ()
    assert only_change(decision).stage == 0


def test_account_added_and_removed_in_one_batch_is_owed_nothing() -> None:
    (entry,) = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", "carol"), remove("bob")).entries
    assert entry.joiners == ("carol",)


def test_outbox_entry_says_which_version_must_have_settled() -> None:
    before = snapshot(PEOPLE, room(), ["alice", "bob"])
    highs = [decided(before, event).entries[0].high for event in (add("carol"), rotate(), remove("carol"))]
    assert highs == [3, 4, 3]


def test_result_of_a_rejected_event_waits_for_the_version_of_its_batch() -> None:
    (entry,) = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("bob"), add("nobody")).entries
    assert (len(entry.outcomes), entry.high) == (2, 4)


def test_outcomes_of_a_room_stay_in_stream_order() -> None:
    before = snapshot(PEOPLE, room(), ["alice"])
    other = rotate(roomId="r2")
    entries = decided(before, add("bob"), other, add("carol"), rotate()).entries
    assert [(entry.room_id, len(entry.outcomes)) for entry in entries] == [("r1", 3), ("r2", 1)]
