"""Contract, section 1: who may ask for what, of which room, and what an event comes to."""

import pytest

from roomkeys.events.event import AnyEvent
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Room
from tests.unit.builders import (
    ALICE,
    AT,
    NOW,
    STREAM_MS,
    add,
    change,
    create,
    decided,
    joined,
    outcome,
    refusal,
    remove,
    room,
    rotate,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob"), user("carol"), user("dave")]
NOBODY_KNOWS = ("not_found", "user_not_found")


def test_create_makes_the_requester_owner_and_everyone_else_member() -> None:
    decision = decided(snapshot(PEOPLE), create(name="Team", users=["bob", "carol"]))
    roles = {membership.account: membership.roles for membership in change(decision).joined}
    assert roles == {"alice": OWNER_ROLES, "bob": MEMBER_ROLES, "carol": MEMBER_ROLES}


def test_create_puts_the_requester_first_even_when_named_last() -> None:
    assert joined(decided(snapshot(PEOPLE), create(users=["carol", "bob", "alice"]))) == [
        "alice",
        "carol",
        "bob",
    ]


def test_create_makes_the_room_at_key_version_0_with_its_counts() -> None:
    written = change(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert (written.room.name, written.room.kind, written.room.site) == ("Team", "channel", "site-a")
    assert (written.high, written.stage) == (0, 0)
    assert (written.users_delta, written.apps_delta) == (2, 0)


def test_create_tells_each_member_but_not_the_room() -> None:
    told = outcome(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert [membership.account for membership in told.added] == ["alice", "bob"]
    assert told.notice is None


def test_a_channel_membership_carries_the_rooms_name_and_site() -> None:
    elsewhere = room(site="site-b")
    (bob,) = change(decided(snapshot(PEOPLE, elsewhere, ["alice"]), add("bob"))).joined
    assert (bob.name, bob.title, bob.site, bob.kind) == ("Team", "Team", "site-b", "channel")
    assert (bob.user_id, bob.joined_ms, bob.subscribed, bob.history_from_ms) == ("u-bob", AT, False, None)


def test_a_zero_timestamp_means_the_messages_stream_time() -> None:
    (bob,) = change(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", timestamp=0))).joined
    assert bob.joined_ms == STREAM_MS


def test_the_outcome_is_stamped_with_the_time_of_the_decision() -> None:
    assert outcome(decided(snapshot(PEOPLE, room()), rotate())).at_ms == NOW


def test_add_writes_members_and_tells_the_room() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", "carol"))
    told = outcome(decision)
    assert joined(decision) == ["bob", "carol"]
    assert told.notice is not None
    assert (told.notice.type, told.notice.room_name, told.notice.joined_ms) == ("member_added", "Team", AT)


def test_add_with_history_none_says_since_when() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history={"mode": "none"}))
    notice = outcome(decision).notice
    assert change(decision).joined[0].history_from_ms == AT
    assert notice is not None
    assert notice.history_from_ms == AT


@pytest.mark.parametrize("history", [None, {}, {"mode": None}, {"mode": "all"}])
def test_add_with_any_other_history_says_nothing(history: object) -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history=history))
    assert change(decision).joined[0].history_from_ms is None


def test_remove_ends_memberships_and_tells_the_room() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("bob"))
    told = outcome(decision)
    assert change(decision).left == ("s-bob",)
    assert change(decision).users_delta == -1
    assert [member.account for member in told.removed] == ["bob"]
    assert told.notice is not None
    assert told.notice.type == "member_removed"


def test_who_removes_only_themself_has_left() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice")))
    assert told.notice is not None
    assert told.notice.type == "member_left"


def test_who_removes_themself_and_others_has_not_just_left() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice", "bob")))
    assert told.notice is not None
    assert told.notice.type == "member_removed"


def test_account_and_accounts_both_name_who_is_removed() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob", "carol"]), remove("carol", account="bob"))
    assert set(change(decision).left) == {"s-bob", "s-carol"}


@pytest.mark.parametrize(
    "event",
    [
        create(users=["bob", "nobody"]),
        create(users=["bob"], name="Team", requesterAccount="nobody"),
        add("carol", "nobody"),
        add("carol", requesterAccount="nobody"),
        remove("bob", "nobody"),
        remove("bob", requester="nobody"),
        remove(orgId="eng", accounts=None, requester="nobody"),
        rotate(requester="nobody"),
    ],
)
def test_one_unknown_account_or_requester_fails_the_whole_event(event: AnyEvent) -> None:
    assert refusal(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event)) == NOBODY_KNOWS


def test_a_member_whose_user_is_gone_can_still_be_removed() -> None:
    assert change(decided(snapshot(PEOPLE, room(), ["alice", "gina"]), remove("gina"))).left == ("s-gina",)


@pytest.mark.parametrize("event", [remove("bob", requester="gina"), rotate(requester="gina")])
def test_a_member_whose_user_is_gone_can_still_remove_and_rotate(event: AnyEvent) -> None:
    assert outcome(decided(snapshot(PEOPLE, room(), ["gina", "bob"]), event)).error is None


@pytest.mark.parametrize("event", [add("bob"), remove("bob"), rotate()])
@pytest.mark.parametrize("kind", [Kind.DM, Kind.BOT_DM, "discussion"])
def test_only_channels_can_be_changed(kind: str, event: AnyEvent) -> None:
    refused = refusal(decided(snapshot(PEOPLE, room(kind), ["alice", "bob"]), event))
    assert refused == ("bad_request", "non_channel_operation")


@pytest.mark.parametrize("event", [add("bob"), remove("bob"), rotate()])
def test_a_room_that_does_not_exist_cannot_be_changed(event: AnyEvent) -> None:
    assert refusal(decided(snapshot(PEOPLE), event)) == ("not_found", "room_not_found")


@pytest.mark.parametrize("existing", [room(site="site-b"), room(Kind.DM), room("discussion")])
def test_a_room_of_another_type_or_site_cannot_be_created_again(existing: Room) -> None:
    decision = decided(snapshot(PEOPLE, existing), create(name="Team", users=["bob", "carol"]))
    assert refusal(decision) == ("conflict", "room_exists")


def test_creating_a_room_again_writes_only_what_is_missing() -> None:
    held = snapshot(PEOPLE, room(), ["bob"], owners=["alice"])
    decision = decided(held, create(name="Other", users=["bob", "carol"]))
    written = change(decision)
    assert [(new.account, new.name) for new in written.joined] == [("carol", "Team")]
    assert (written.creation, written.high, written.users_delta) == (None, None, 1)
    assert outcome(decision).error is None


def test_creating_a_room_again_sends_the_current_key_to_the_accounts_named() -> None:
    (owed,) = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), create(users=["bob", "carol"])).owed
    assert set(owed.joiners) == {"alice", "bob", "carol"}


@pytest.mark.parametrize("event", [add("bob"), add(), remove("carol"), remove(orgId="eng", accounts=None)])
def test_nothing_to_do_is_ok_and_sends_and_rotates_nothing(event: AnyEvent) -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event)
    told = outcome(decision)
    assert (told.error, told.added, told.removed, told.notice) == (None, (), (), None)
    assert decision.changes == ()
    assert decision.owed[0].joiners == ()


def test_a_member_who_is_named_again_keeps_role_and_membership() -> None:
    decision = decided(snapshot(PEOPLE, room(), owners=["alice"]), add("alice", "bob"))
    assert joined(decision) == ["bob"]


def test_a_rejected_event_carries_itself_for_the_dead_letters() -> None:
    event = rotate()
    letter = outcome(decided(snapshot(PEOPLE), event)).letter
    assert letter is not None
    assert (letter.subject, letter.body) == (event.origin.subject, event.origin.body)


def test_an_event_that_succeeds_is_no_dead_letter() -> None:
    assert outcome(decided(snapshot(PEOPLE, room()), rotate())).letter is None


def test_a_poison_among_healthy_events_harms_none_of_them() -> None:
    poison = add(roomId="r1", users=5)
    (owed,) = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob"), poison, remove("bob")).owed
    errors = [told.error.reason if told.error else None for told in owed.outcomes]
    assert errors == [None, "invalid_event", None]


def test_who_is_removed_after_joining_in_one_batch_leaves_no_trace() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob"), remove("bob"))
    written = change(decision)
    assert (written.joined, written.left, written.users_delta) == ((), (), 0)
    assert decision.owed[0].joiners == ()


def test_who_comes_back_in_one_batch_has_a_new_membership() -> None:
    held = snapshot(PEOPLE, room(), owners=["alice", "bob"])
    written = change(decided(held, remove("bob"), add("bob")))
    assert written.left == ("s-bob",)
    assert [(new.id, new.roles) for new in written.joined] == [("new-1", MEMBER_ROLES)]
    assert written.users_delta == 0


def test_a_batch_takes_a_prefix_that_touches_few_enough_accounts() -> None:
    batch = [add("bob"), add("carol"), add("dave")]
    held = snapshot(PEOPLE, room(), [ALICE])
    assert [decided(held, *batch, most_accounts=most).taken for most in (1, 4, 5, 6)] == [1, 2, 2, 3]


def test_an_event_that_names_nobody_to_remove_has_nothing_to_do() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove())
    assert (outcome(decision).error, outcome(decision).removed, decision.changes) == (None, (), ())


def test_who_is_the_only_one_of_several_to_leave_by_their_own_event_has_left() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice"]), remove("alice", "bob")))
    assert told.notice is not None
    assert told.notice.type == "member_left"
