"""Contract, sections 1, 2 and 5: which version a room gets, and who is sent the current key."""

import pytest

from roomkeys.events.event import AnyEvent
from roomkeys.keys import KeyRecord, RoomKey
from tests.unit.builders import (
    AT,
    add,
    change,
    create,
    decided,
    outcome,
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
def test_a_removal_and_a_rotation_stage_the_next_version(event: AnyEvent) -> None:
    written = change(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event))
    assert (written.high, written.stage) == (4, 4)


def test_a_rotation_changes_no_member_and_tells_nobody() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), rotate())
    told = outcome(decision)
    assert (told.error, told.added, told.removed, told.notice) == (None, (), (), None)
    assert decision.owed[0].joiners == ()


def test_an_add_rotates_nothing_and_owes_the_key_to_who_was_added() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), add("bob", "carol"))
    assert (change(decision).high, change(decision).stage) == (None, None)
    assert decision.owed[0].joiners == ("carol",)


def test_every_rotating_event_of_a_batch_raises_the_version_but_one_key_is_made() -> None:
    held = snapshot(PEOPLE, room(), ["alice", "bob", "carol"])
    decision = decided(held, remove("bob"), remove("carol"), rotate())
    assert (change(decision).high, change(decision).stage) == (6, 6)


def test_a_room_that_rotates_in_the_batch_that_creates_it_skips_versions_upwards() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["bob", "carol"]), remove("bob"), rotate())
    assert (change(decision).high, change(decision).stage) == (2, 2)


def test_a_removal_of_nobody_in_between_raises_nothing() -> None:
    held = snapshot(PEOPLE, room(), ["alice", "bob"])
    assert change(decided(held, remove("bob"), remove("bob"))).high == 4


@pytest.mark.parametrize("state", NEXT)
@pytest.mark.parametrize("event", [add("carol"), remove("bob"), rotate(), create(users=["bob", "carol"])])
def test_a_room_without_a_key_of_ours_gets_a_version_above_all_it_ever_used(state: str, event: AnyEvent) -> None:
    record, version = NEXT[state]
    decision = decided(snapshot(PEOPLE, room(keys=record), ["alice", "bob"]), event)
    assert (change(decision).high, change(decision).stage) == (version, version)


@pytest.mark.parametrize("state", NEXT)
def test_a_room_without_a_key_gets_one_for_two_adds_of_one_batch(state: str) -> None:
    record, version = NEXT[state]
    decision = decided(snapshot(PEOPLE, room(keys=record), ["alice"]), add("bob"), add("carol"))
    assert change(decision).stage == version


def test_a_room_that_lost_its_key_and_has_nothing_to_do_stays_as_it_is() -> None:
    assert decided(snapshot(PEOPLE, room(keys=LOST), ["alice", "bob"]), add("bob")).changes == ()


def test_creating_a_room_again_that_lost_its_key_sends_a_new_one_though_nobody_joins() -> None:
    decision = decided(
        snapshot(PEOPLE, room(keys=LOST), ["alice", "bob", "carol"]), create(users=["bob", "carol"])
    )
    assert change(decision).stage == 8


def test_while_a_key_is_staged_a_rotation_only_raises_the_version() -> None:
    record = settled(3).with_staged(RoomKey(4, b"s" * 32))
    written = change(decided(snapshot(PEOPLE, room(keys=record), ["alice", "bob"]), remove("bob")))
    assert (written.high, written.stage) == (5, None)


def test_while_a_key_is_staged_joiners_are_owed_the_current_one() -> None:
    record = settled(3).with_staged(RoomKey(4, b"s" * 32))
    (owed,) = decided(snapshot(PEOPLE, room(keys=record), ["alice"]), add("bob")).owed
    assert (owed.joiners, owed.high) == (("bob",), 4)


@pytest.mark.parametrize("record", [KeyRecord(), LOST, FOREIGN])
def test_while_the_only_key_is_staged_joiners_are_owed_it(record: KeyRecord) -> None:
    """The pass under way may have read the members already. (design.md, "Big rooms")"""
    staged = record.with_staged(RoomKey(20, b"s" * 32))
    decision = decided(snapshot(PEOPLE, room(keys=staged), ["alice"]), add("bob"))
    assert change(decision).high is None
    assert decision.owed[0].joiners == ("bob",)


def test_a_new_room_owes_version_0_to_every_member_not_to_joiners() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["bob", "carol"]))
    assert decision.owed[0].joiners == ()
    assert change(decision).stage == 0


def test_who_is_added_and_removed_in_one_batch_is_owed_nothing() -> None:
    (owed,) = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", "carol"), remove("bob")).owed
    assert owed.joiners == ("carol",)


def test_what_is_owed_says_which_version_must_have_settled() -> None:
    held = snapshot(PEOPLE, room(), ["alice", "bob"])
    highs = [decided(held, event).owed[0].high for event in (add("carol"), rotate(), remove("carol"))]
    assert highs == [3, 4, 3]


def test_a_rejected_event_waits_for_the_version_of_its_batch() -> None:
    (owed,) = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("bob"), add("nobody")).owed
    assert (len(owed.outcomes), owed.high) == (2, 4)


def test_the_outcomes_of_one_room_stay_in_stream_order() -> None:
    held = snapshot(PEOPLE, room(), ["alice"])
    other = rotate(roomId="r2")
    owed = decided(held, add("bob"), other, add("carol"), rotate()).owed
    assert [(entry.room_id, len(entry.outcomes)) for entry in owed] == [("r1", 3), ("r2", 1)]
