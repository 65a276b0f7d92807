"""Contract, section 1, *Orgs*: why somebody is a member, once a room has orgs."""

import pytest

from roomkeys.membership import MEMBER_ROLES
from tests.unit.builders import (
    add,
    change,
    create,
    decided,
    joined,
    member,
    outcome,
    reasons,
    remove,
    room,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob", "eng"), user("carol", "eng", "ops"), user("dave"), user("erin", "hr")]


def leave_org(org: str = "eng", **fields: object) -> dict[str, object]:
    return {"orgId": org, "accounts": None} | fields


def test_a_room_without_orgs_records_no_reasons() -> None:
    assert reasons(decided(snapshot(PEOPLE), create(name="Team", users=["bob"]))) == set()


def test_an_org_stands_for_its_section_and_department() -> None:
    assert joined(decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["eng"]))) == ["bob", "carol"]


def test_create_with_an_org_writes_a_row_for_the_org_the_owner_and_who_is_named() -> None:
    decision = decided(snapshot(PEOPLE), create(users=["dave"], orgs=["eng"]))
    assert joined(decision) == ["alice", "dave", "bob", "carol"]
    assert reasons(decision) == {("org", "eng"), ("individual", "alice"), ("individual", "dave")}


def test_a_row_of_an_individual_carries_the_users_id_and_account() -> None:
    written = change(decided(snapshot(PEOPLE, room("channel", "eng"), ["alice"]), add("dave")))
    assert [(reason.type, reason.id, reason.account) for reason in written.reasons] == [
        ("individual", "u-dave", "dave")
    ]


def test_who_is_named_and_in_the_org_gets_a_row_too() -> None:
    assert ("individual", "bob") in reasons(decided(snapshot(PEOPLE), create(users=["bob"], orgs=["eng"])))


def test_the_first_org_backfills_a_row_for_every_existing_member() -> None:
    held = snapshot(PEOPLE, room(), ["alice", "bob", "dave"])
    expected = {("org", "eng"), ("individual", "alice"), ("individual", "bob"), ("individual", "dave")}
    assert reasons(decided(held, add(orgs=["eng"]))) == expected


def test_the_second_org_backfills_nothing() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    assert reasons(decided(held, add(orgs=["hr"]))) == {("org", "hr")}


def test_two_first_orgs_in_one_event_do_not_make_each_other_individuals() -> None:
    held = snapshot(PEOPLE, room(), ["alice"])
    assert reasons(decided(held, add(orgs=["eng", "hr"]))) == {
        ("org", "eng"),
        ("org", "hr"),
        ("individual", "alice"),
    }


def test_an_org_whose_people_are_all_members_tells_the_room_of_nobody() -> None:
    held = snapshot(PEOPLE, room(), ["alice", "bob", "carol"])
    told = outcome(decided(held, add(orgs=["eng"])))
    assert told.notice is not None
    assert (told.notice.type, told.added) == ("member_added", ())


def test_an_org_that_the_room_has_already_is_nothing_to_do() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob", "carol"], individuals=["alice"])
    decision = decided(held, add(orgs=["eng"]))
    assert decision.changes == ()
    assert outcome(decision).notice is None


def test_adding_somebody_whom_an_org_covers_writes_only_the_row() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    decision = decided(held, add("bob"))
    assert reasons(decision) == {("individual", "bob")}
    assert (change(decision).joined, outcome(decision).notice) == ((), None)
    assert decision.owed[0].joiners == ()


def test_removing_somebody_whom_an_org_covers_deletes_only_the_row() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(held, remove("bob"))
    written = change(decision)
    assert written.removed_reasons == (("individual", "u-bob"),)
    assert (written.left, written.high) == ((), None)
    assert (outcome(decision).removed, outcome(decision).notice) == ((), None)


def test_an_owner_whom_an_org_covers_becomes_a_member() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice"], owners=["bob"], individuals=["alice", "bob"])
    assert change(decided(held, remove("bob"))).demoted == ("s-bob",)


def test_a_new_owner_whom_an_org_covers_becomes_a_member_within_one_batch() -> None:
    create_room = create(orgs=["eng"], requesterAccount="bob")
    written = change(decided(snapshot(PEOPLE), create_room, remove("bob")))
    assert {new.account: new.roles for new in written.joined}["bob"] == MEMBER_ROLES
    assert written.demoted == ()


def test_removing_somebody_whom_no_org_covers_ends_the_membership_and_the_row() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "dave"], individuals=["alice", "dave"])
    written = change(decided(held, remove("dave")))
    assert (written.left, written.removed_reasons, written.high) == (("s-dave",), (("individual", "u-dave"),), 4)


def test_one_removal_can_end_one_membership_and_keep_another() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob", "dave"], individuals=["alice", "bob", "dave"])
    decision = decided(held, remove("bob", "dave"))
    assert outcome(decision).removed == (member("dave"),)
    assert set(change(decision).removed_reasons) == {("individual", "u-bob"), ("individual", "u-dave")}


def test_removing_an_org_removes_who_has_no_other_reason() -> None:
    held = snapshot(
        PEOPLE, room("channel", "eng", "ops", "hr"), ["alice", "bob", "carol", "erin"], individuals=["alice"]
    )
    decision = decided(held, remove(**leave_org()))
    written, told = change(decision), outcome(decision)
    assert (written.left, written.removed_reasons, written.high) == (("s-bob",), (("org", "eng"),), 4)
    assert told.notice is not None
    assert (told.notice.type, told.notice.org) == ("member_removed", "eng")


def test_removing_an_org_keeps_who_has_a_row_of_their_own() -> None:
    held = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(held, remove(**leave_org()))
    assert change(decision).left == ()


def test_removing_an_org_that_removes_nobody_rotates_nothing_and_tells_nobody() -> None:
    held = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice", "bob"])
    decision = decided(held, remove(**leave_org()))
    assert change(decision).removed_reasons == (("org", "eng"),)
    assert (change(decision).high, outcome(decision).notice) == (None, None)


@pytest.mark.parametrize("orgs", [(), ("hr",)])
def test_an_org_without_a_row_is_nothing_to_do(orgs: tuple[str, ...]) -> None:
    decision = decided(snapshot(PEOPLE, room("channel", *orgs), ["alice", "bob"]), remove(**leave_org()))
    assert decision.changes == ()
    assert outcome(decision).error is None


def test_with_its_last_org_the_rooms_individual_rows_go_too() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    written = change(decided(held, remove(**leave_org())))
    assert written.reasons_cleared
    assert written.left == ("s-bob",)


def test_while_an_org_remains_the_individual_rows_stay() -> None:
    held = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice", "bob"], individuals=["alice"])
    assert not change(decided(held, remove(**leave_org()))).reasons_cleared


def test_an_org_that_comes_back_in_one_batch_backfills_anew() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob"], individuals=["alice"])
    written = change(decided(held, remove(**leave_org()), add(orgs=["eng"])))
    assert written.reasons_cleared
    assert {(reason.type, reason.id) for reason in written.reasons} == {("org", "eng"), ("individual", "u-alice")}


def test_an_org_nobody_belongs_to_still_gets_its_row() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["void"]))
    assert ("org", "void") in reasons(decision)
    assert outcome(decision).notice is not None


def test_an_owner_who_leaves_with_an_org_leaves_no_row() -> None:
    held = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice"], owners=["bob"])
    assert change(decided(held, remove(**leave_org()))).left == ("s-bob",)


def test_an_owner_who_is_demoted_and_then_leaves_in_one_batch_is_only_removed() -> None:
    held = snapshot(PEOPLE, room("channel", "eng", "hr"), ["alice"], owners=["bob"], individuals=["alice", "bob"])
    written = change(decided(held, remove("bob"), remove(**leave_org())))
    assert (written.left, written.demoted) == (("s-bob",), ())


def test_a_row_written_before_the_last_org_goes_in_one_batch_goes_with_it() -> None:
    held = snapshot(PEOPLE, room("channel", "eng"), ["alice"], individuals=["alice"])
    written = change(decided(held, add("dave"), remove(**leave_org())))
    assert (written.reasons_cleared, written.reasons) == (True, ())
