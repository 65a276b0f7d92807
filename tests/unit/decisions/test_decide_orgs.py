"""Why accounts are members once a room has orgs. (docs/contract.md, section 1, Orgs)"""

import pytest

from roomkeys.membership import MEMBER_ROLES
from tests.unit.builders import (
    add,
    create,
    decided,
    joined,
    member,
    only_change,
    only_outcome,
    reasons,
    remove,
    room,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob", "eng"), user("carol", "eng", "ops"), user("dave"), user("erin", "hr")]


def leave_org(org: str = "eng", **fields: object) -> dict[str, object]:
    return {"orgId": org, "accounts": None} | fields


def test_room_without_orgs_records_no_reasons() -> None:
    assert reasons(decided(snapshot(PEOPLE), create(name="Team", users=["bob"]))) == set()


def test_org_makes_users_of_its_section_and_department_members() -> None:
    assert joined(decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["eng"]))) == ["bob", "carol"]


def test_create_with_an_org_writes_reasons_for_org_owner_and_named_users() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["dave"], orgs=["eng"]))
    assert joined(decision) == ["alice", "dave", "bob", "carol"]
    assert reasons(decision) == {("org", "eng"), ("individual", "alice"), ("individual", "dave")}


def test_individual_reason_has_the_users_id_and_account() -> None:
    written = only_change(decided(snapshot(PEOPLE, room("channel", "eng"), ["alice"]), add("dave")))
    assert [(reason.type, reason.id, reason.account) for reason in written.reasons] == [
        ("individual", "u-dave", "dave")
    ]


def test_named_user_of_the_org_gets_an_individual_reason_too() -> None:
    assert ("individual", "bob") in reasons(decided(snapshot(PEOPLE), create(users=["bob"], orgs=["eng"])))


def test_first_org_backfills_a_reason_for_every_existing_member() -> None:
    before = snapshot(PEOPLE, room(), ["alice", "bob", "dave"])
    expected = {("org", "eng"), ("individual", "alice"), ("individual", "bob"), ("individual", "dave")}
    assert reasons(decided(before, add(orgs=["eng"]))) == expected


def test_second_org_backfills_nothing() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    assert reasons(decided(before, add(orgs=["hr"]))) == {("org", "hr")}


def test_two_first_orgs_in_one_event_backfill_only_existing_members() -> None:
    before = snapshot(PEOPLE, room(), ["alice"])
    assert reasons(decided(before, add(orgs=["eng", "hr"]))) == {("org", "eng"), ("org", "hr"), ("individual", "alice")}


def test_org_whose_users_are_all_members_sends_a_notice_without_accounts() -> None:
    before = snapshot(PEOPLE, room(), ["alice", "bob", "carol"])
    outcome = only_outcome(decided(before, add(orgs=["eng"])))
    assert outcome.notice is not None
    assert (outcome.notice.type, outcome.added) == ("member_added", ())


def test_org_that_the_room_already_has_changes_nothing() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob", "carol"], individuals=["alice"])
    decision = decided(before, add(orgs=["eng"]))
    assert decision.changes == ()
    assert only_outcome(decision).notice is None


def test_add_of_a_member_through_an_org_writes_only_the_reason() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    decision = decided(before, add("bob"))
    assert reasons(decision) == {("individual", "bob")}
    assert (only_change(decision).joined, only_outcome(decision).notice) == ((), None)
    assert decision.entries[0].joiners == ()


def test_removal_of_a_member_whom_an_org_covers_deletes_only_the_reason() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(before, remove("bob"))
    written = only_change(decision)
    assert written.removed_rows == ("row-bob",)
    assert (written.left, written.high) == ((), None)
    assert (only_outcome(decision).removed, only_outcome(decision).notice) == ((), None)


def test_removed_owner_whom_an_org_covers_becomes_a_member() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice"], owners=["bob"], individuals=["alice", "bob"])
    assert only_change(decided(before, remove("bob"))).demoted == ("s-bob",)


def test_new_owner_removed_in_the_same_batch_becomes_a_member_through_the_org() -> None:
    create_room = create(orgs=["eng"], requesterAccount="bob")
    written = only_change(decided(snapshot(PEOPLE), create_room, remove("bob")))
    assert {new.account: new.roles for new in written.joined}["bob"] == MEMBER_ROLES
    assert written.demoted == ()


def test_removal_of_a_member_whom_no_org_covers_ends_membership_and_reason() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "dave"], individuals=["alice", "dave"])
    written = only_change(decided(before, remove("dave")))
    assert (written.left, written.removed_rows, written.high) == (("dave",), ("row-dave",), 4)


def test_one_removal_can_end_one_membership_and_keep_another() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob", "dave"], individuals=["alice", "bob", "dave"])
    decision = decided(before, remove("bob", "dave"))
    assert only_outcome(decision).removed == (member("dave"),)
    assert set(only_change(decision).removed_rows) == {"row-bob", "row-dave"}


def test_removal_of_an_org_removes_members_without_another_reason() -> None:
    before = snapshot(
        PEOPLE, room("channel", "eng", "ops", "hr"), ["alice", "bob", "carol", "erin"], individuals=["alice"]
    )
    decision = decided(before, remove(**leave_org()))
    written, outcome = only_change(decision), only_outcome(decision)
    assert (written.left, written.removed_orgs, written.high) == (("bob",), ("eng",), 4)
    assert outcome.notice is not None
    assert (outcome.notice.type, outcome.notice.org) == ("member_removed", "eng")


def test_removal_of_an_org_keeps_members_with_an_individual_reason() -> None:
    before = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(before, remove(**leave_org()))
    assert only_change(decision).left == ()


def test_removal_of_an_org_without_leavers_neither_rotates_nor_notifies() -> None:
    before = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(before, remove(**leave_org()))
    assert only_change(decision).removed_orgs == ("eng",)
    assert (only_change(decision).high, only_outcome(decision).notice) == (None, None)


@pytest.mark.parametrize("orgs", [(), ("hr",)])
def test_removal_of_an_org_that_the_room_does_not_have_changes_nothing(orgs: tuple[str, ...]) -> None:
    decision = decided(snapshot(PEOPLE, room("channel", *orgs), ["alice", "bob"]), remove(**leave_org()))
    assert decision.changes == ()
    assert only_outcome(decision).error is None


def test_removal_of_the_last_org_clears_the_individual_reasons() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    written = only_change(decided(before, remove(**leave_org())))
    assert written.reasons_cleared
    assert written.left == ("bob",)


def test_individual_reasons_stay_while_an_org_remains() -> None:
    before = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice"])
    assert not only_change(decided(before, remove(**leave_org()))).reasons_cleared


def test_org_removed_and_added_in_one_batch_backfills_again() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    written = only_change(decided(before, remove(**leave_org()), add(orgs=["eng"])))
    assert written.reasons_cleared
    assert {(reason.type, reason.id) for reason in written.reasons} == {("org", "eng"), ("individual", "u-alice")}


def test_org_without_users_still_gets_its_reason() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["void"]))
    assert ("org", "void") in reasons(decision)
    assert only_outcome(decision).notice is not None


def test_owner_who_is_a_member_only_through_the_org_leaves_with_it() -> None:
    before = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice"], owners=["bob"])
    assert only_change(decided(before, remove(**leave_org()))).left == ("bob",)


def test_owner_demoted_and_removed_in_one_batch_is_only_removed() -> None:
    before = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice"], owners=["bob"], individuals=["alice", "bob"])
    written = only_change(decided(before, remove("bob"), remove(**leave_org())))
    assert (written.left, written.demoted) == (("bob",), ())


def test_reason_written_before_the_last_org_leaves_in_one_batch_is_not_written() -> None:
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice"], individuals=["alice"])
    written = only_change(decided(before, add("dave"), remove(**leave_org())))
    assert (written.reasons_cleared, written.reasons) == (True, ())
