"""Which events are accepted, and what they change. (docs/contract.md, section 1)"""

import pytest

from roomkeys.events.event import AnyEvent
from roomkeys.membership import MEMBER_ROLES, OWNER_ROLES, Kind, Room
from tests.unit.builders import (
    ALICE,
    AT,
    NOW,
    SITE,
    STREAM_MS,
    add,
    create,
    decided,
    joined,
    only_change,
    only_outcome,
    refusal,
    remove,
    room,
    rotate,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob"), user("carol"), user("dave")]
USER_NOT_FOUND = ("not_found", "user_not_found")


def test_create_makes_the_requester_owner_and_everyone_else_member() -> None:
    decision = decided(snapshot(PEOPLE), create(name="Team", users=["bob", "carol"]))
    roles = {membership.account: membership.roles for membership in only_change(decision).joined}
    assert roles == {"alice": OWNER_ROLES, "bob": MEMBER_ROLES, "carol": MEMBER_ROLES}


def test_create_puts_the_requester_first_even_when_named_last() -> None:
    assert joined(decided(snapshot(PEOPLE), create(users=["carol", "bob", "alice"]))) == ["alice", "carol", "bob"]


def test_create_writes_the_room_with_key_version_0_and_counts() -> None:
    written = only_change(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert (written.room.name, written.room.kind, written.room.site) == ("Team", "channel", "site-a")
    assert (written.high, written.stage) == (0, 0)
    assert (written.users_delta, written.apps_delta) == (2, 0)


def test_create_notifies_each_member_but_not_the_room() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert [membership.account for membership in outcome.added] == ["alice", "bob"]
    assert outcome.notice is None


def test_channel_membership_has_the_name_and_site_of_its_room() -> None:
    (bob,) = only_change(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob"))).joined
    assert (bob.name, bob.title, bob.site, bob.kind) == ("Team", "Team", SITE, "channel")
    assert (bob.user_id, bob.joined_ms, bob.subscribed, bob.history_from_ms) == ("u-bob", AT, False, None)


@pytest.mark.parametrize("event", [add("bob"), remove("alice"), remove(accounts=[], orgId="eng"), rotate()])
def test_room_of_another_site_is_not_found(event: AnyEvent) -> None:
    before = snapshot(PEOPLE, room("channel", "eng", site="site-b"), ["alice"], individuals=["alice"])
    assert refusal(decided(before, event)) == ("not_found", "room_not_found")


def test_room_without_a_site_belongs_to_the_site_that_asks() -> None:
    (bob,) = only_change(decided(snapshot(PEOPLE, room(site=""), ["alice"]), add("bob"))).joined
    assert bob.site == SITE


@pytest.mark.parametrize(
    "event", [create(users=["nobody", "bob"]), add("nobody"), remove("nobody"), rotate(requester="nobody")]
)
def test_unknown_account_is_named(event: AnyEvent) -> None:
    before = snapshot(PEOPLE, room(), ["alice"])
    error = only_outcome(decided(before, event)).error
    assert error is not None
    assert error.text == "account nobody is not in users"


def test_zero_timestamp_means_the_stream_time() -> None:
    (bob,) = only_change(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", timestamp=0))).joined
    assert bob.joined_ms == STREAM_MS


def test_outcome_is_stamped_with_the_time_of_the_decision() -> None:
    assert only_outcome(decided(snapshot(PEOPLE, room()), rotate())).at_ms == NOW


def test_add_writes_members_and_notifies_the_room() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", "carol"))
    outcome = only_outcome(decision)
    assert joined(decision) == ["bob", "carol"]
    assert outcome.notice is not None
    assert (outcome.notice.type, outcome.notice.room_name, outcome.notice.joined_ms) == ("member_added", "Team", AT)


def test_add_with_history_none_says_since_when() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history={"mode": "none"}))
    notice = only_outcome(decision).notice
    assert only_change(decision).joined[0].history_from_ms == AT
    assert notice is not None
    assert notice.history_from_ms == AT


@pytest.mark.parametrize("history", [None, {}, {"mode": None}, {"mode": "all"}])
def test_add_with_any_other_history_shares_all_of_it(history: object) -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history=history))
    assert only_change(decision).joined[0].history_from_ms is None


def test_remove_ends_memberships_and_notifies_the_room() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("bob"))
    outcome = only_outcome(decision)
    assert only_change(decision).left == ("bob",)
    assert only_change(decision).users_delta == -1
    assert [member.account for member in outcome.removed] == ["bob"]
    assert outcome.notice is not None
    assert outcome.notice.type == "member_removed"


def test_member_who_removes_only_themself_has_left() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice")))
    assert outcome.notice is not None
    assert outcome.notice.type == "member_left"


def test_member_who_removes_themself_and_others_is_removed() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice", "bob")))
    assert outcome.notice is not None
    assert outcome.notice.type == "member_removed"


def test_account_and_accounts_both_name_removed_members() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob", "carol"]), remove("carol", account="bob"))
    assert set(only_change(decision).left) == {"bob", "carol"}


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
    assert refusal(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event)) == USER_NOT_FOUND


def test_member_whose_user_is_gone_can_be_removed() -> None:
    assert only_change(decided(snapshot(PEOPLE, room(), ["alice", "gina"]), remove("gina"))).left == ("gina",)


@pytest.mark.parametrize("event", [remove("bob", requester="gina"), rotate(requester="gina")])
def test_member_whose_user_is_gone_can_remove_and_rotate(event: AnyEvent) -> None:
    assert only_outcome(decided(snapshot(PEOPLE, room(), ["gina", "bob"]), event)).error is None


@pytest.mark.parametrize("event", [add("bob"), remove("bob"), rotate()])
@pytest.mark.parametrize("kind", [Kind.DM, Kind.BOT_DM, "discussion"])
def test_only_channels_can_be_changed(kind: str, event: AnyEvent) -> None:
    refused = refusal(decided(snapshot(PEOPLE, room(kind), ["alice", "bob"]), event))
    assert refused == ("bad_request", "non_channel_operation")


@pytest.mark.parametrize("event", [add("bob"), remove("bob"), rotate()])
def test_room_that_does_not_exist_cannot_be_changed(event: AnyEvent) -> None:
    assert refusal(decided(snapshot(PEOPLE), event)) == ("not_found", "room_not_found")


@pytest.mark.parametrize("existing", [room(site="site-b"), room(Kind.DM), room("discussion")])
def test_room_of_another_type_or_site_cannot_be_created_again(existing: Room) -> None:
    decision = decided(snapshot(PEOPLE, existing), create(name="Team", users=["bob", "carol"]))
    assert refusal(decision) == ("conflict", "room_exists")


def test_repeated_create_writes_only_missing_members() -> None:
    before = snapshot(PEOPLE, room(), ["bob"], owners=["alice"])
    decision = decided(before, create(name="Other", users=["bob", "carol"]))
    written = only_change(decision)
    assert [(new.account, new.name) for new in written.joined] == [("carol", "Team")]
    assert (written.creation, written.high, written.users_delta) == (None, None, 1)
    assert only_outcome(decision).error is None


def test_repeated_create_sends_the_current_key_to_the_named_accounts() -> None:
    (entry,) = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), create(users=["bob", "carol"])).entries
    assert set(entry.joiners) == {"alice", "bob", "carol"}


@pytest.mark.parametrize("event", [add("bob"), add(), remove("carol"), remove(orgId="eng", accounts=None)])
def test_event_with_nothing_to_do_is_ok_and_sends_and_rotates_nothing(event: AnyEvent) -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), event)
    outcome = only_outcome(decision)
    assert (outcome.error, outcome.added, outcome.removed, outcome.notice) == (None, (), (), None)
    assert decision.changes == ()
    assert decision.entries[0].joiners == ()


def test_member_who_is_added_again_keeps_role_and_membership() -> None:
    decision = decided(snapshot(PEOPLE, room(), owners=["alice"]), add("alice", "bob"))
    assert joined(decision) == ["bob"]


def test_outcome_of_a_rejected_event_has_its_dead_letter() -> None:
    event = rotate()
    letter = only_outcome(decided(snapshot(PEOPLE), event)).letter
    assert letter is not None
    assert (letter.subject, letter.body) == (event.origin.subject, event.origin.body)


def test_outcome_of_a_successful_event_has_no_dead_letter() -> None:
    assert only_outcome(decided(snapshot(PEOPLE, room()), rotate())).letter is None


def test_invalid_event_does_not_affect_the_others_of_its_batch() -> None:
    invalid = add(roomId="r1", users=5)
    (entry,) = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob"), invalid, remove("bob")).entries
    errors = [outcome.error.reason if outcome.error else None for outcome in entry.outcomes]
    assert errors == [None, "invalid_event", None]


def test_account_that_joins_and_leaves_in_one_batch_leaves_no_trace() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("bob"), remove("bob"))
    written = only_change(decision)
    assert (written.joined, written.left, written.users_delta) == ((), (), 0)
    assert decision.entries[0].joiners == ()


def test_account_that_leaves_and_returns_in_one_batch_has_a_new_membership() -> None:
    before = snapshot(PEOPLE, room(), owners=["alice", "bob"])
    written = only_change(decided(before, remove("bob"), add("bob")))
    assert written.left == ("bob",)
    assert [(new.id, new.roles) for new in written.joined] == [("new-1", MEMBER_ROLES)]
    assert written.users_delta == 0


def test_batch_takes_a_prefix_within_the_limit_of_accounts() -> None:
    batch = [add("bob"), add("carol"), add("dave")]
    before = snapshot(PEOPLE, room(), [ALICE])
    assert [decided(before, *batch, most_accounts=most).taken for most in (1, 4, 5, 6)] == [1, 2, 2, 3]


def test_removal_of_nobody_has_nothing_to_do() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove())
    assert (only_outcome(decision).error, only_outcome(decision).removed, decision.changes) == (None, (), ())


def test_requester_who_is_the_only_member_of_those_removed_has_left() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice"]), remove("alice", "bob")))
    assert outcome.notice is not None
    assert outcome.notice.type == "member_left"
