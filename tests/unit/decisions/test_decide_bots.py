"""Bots can be members, are counted as apps, and do not belong to orgs. (docs/contract.md, section 1)"""

import pytest

from roomkeys.tokens import is_bot
from tests.unit.builders import (
    add,
    create,
    decided,
    joined,
    only_change,
    only_outcome,
    refusal,
    remove,
    room,
    snapshot,
    user,
)

PEOPLE = [user("alice"), user("bob", "eng"), user("helper.bot", "eng"), user("p_app", "eng")]


def test_create_of_a_channel_ignores_bots() -> None:
    decision = decided(snapshot(PEOPLE), create(name="Team", users=["bob", "helper.bot", "p_app"]))
    assert joined(decision) == ["alice", "bob"]


def test_add_ignores_bots() -> None:
    assert joined(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", "helper.bot", "p_app"))) == ["bob"]


def test_add_of_bots_only_has_nothing_to_do() -> None:
    decision = decided(snapshot(PEOPLE, room(), ["alice"]), add("helper.bot"))
    assert decision.changes == ()
    assert only_outcome(decision).notice is None


def test_org_does_not_make_its_bots_members() -> None:
    assert joined(decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["eng"]))) == ["bob"]


def test_bot_that_creates_a_channel_owns_it_and_counts_as_an_app() -> None:
    written = only_change(decided(snapshot(PEOPLE), create(name="Team", users=["bob"], requesterAccount="p_app")))
    assert [(new.account, new.roles, is_bot(new.account)) for new in written.joined] == [
        ("p_app", ("owner",), True),
        ("bob", ("member",), False),
    ]
    assert (written.users_delta, written.apps_delta) == (1, 1)


@pytest.mark.parametrize("bot", ["helper.bot", "p_app"])
def test_bot_that_is_a_member_can_be_removed(bot: str) -> None:
    written = only_change(decided(snapshot(PEOPLE, room(), ["alice", bot]), remove(bot)))
    assert written.left == (bot,)
    assert (written.users_delta, written.apps_delta) == (0, -1)


@pytest.mark.parametrize("bot", ["helper.bot", "p_app"])
def test_org_does_not_keep_its_bots_in_the_room(bot: str) -> None:
    """The users of an org are those whose section or department is its id, *except bots*."""
    before = snapshot(PEOPLE, room("channel", "eng"), ["alice", "bob", bot], individuals=["alice", bot])
    assert only_change(decided(before, remove(bot))).left == (bot,)


def test_create_with_one_bot_and_no_name_is_a_bot_dm() -> None:
    written = only_change(decided(snapshot(PEOPLE), create(users=["helper.bot"])))
    assert written.room.kind == "botDM"


def test_bot_that_does_not_exist_is_not_available() -> None:
    assert refusal(decided(snapshot(PEOPLE), create(users=["no.bot"]))) == ("not_found", "bot_not_available")


def test_dm_with_oneself_is_refused() -> None:
    assert refusal(decided(snapshot(PEOPLE), create(users=["alice"]))) == ("bad_request", "self_dm")


@pytest.mark.parametrize("bot", ["helper.bot", "p_app"])
def test_dm_of_a_bot_with_itself_is_refused(bot: str) -> None:
    decision = decided(snapshot(PEOPLE), create(users=[bot], requesterAccount=bot))
    assert refusal(decision) == ("bad_request", "self_dm")
