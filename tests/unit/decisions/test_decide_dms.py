"""Rooms of two have no key and no roles, and are named after the other. (docs/contract.md, sections 1, 3, 5)"""

import pytest

from roomkeys.membership import Kind, Membership, User
from tests.unit.builders import create, decided, joined, only_change, room, snapshot, user

PEOPLE = [
    user("alice", eng="Alice Chen", chinese="陳愛麗"),
    user("bob", eng=" Bob ", chinese="Bob"),
    user("carol"),
    user("helper.bot", eng="Helper"),
    user("p_app"),
]


def dm(requester: str, other: str, apps: dict[str, str] | None = None) -> dict[str, Membership]:
    """Return the memberships of a new dm, by account."""
    event = create(users=[other], requesterAccount=requester)
    written = only_change(decided(snapshot(PEOPLE, apps=apps), event))
    return {membership.account: membership for membership in written.joined}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"users": ["bob"]}, "dm"),
        ({"users": ["bob", "bob"]}, "dm"),
        ({"users": ["bob"], "name": ""}, "dm"),
        ({"users": ["bob"], "name": None, "orgs": None, "channels": None}, "dm"),
        ({"users": ["helper.bot"]}, "botDM"),
        ({"users": ["p_app"]}, "botDM"),
        ({"users": ["bob"], "name": "Team"}, "channel"),
        ({"users": ["bob"], "orgs": ["eng"]}, "channel"),
        ({"users": ["bob"], "channels": [{"roomId": "r2", "siteId": "site-a"}]}, "channel"),
        ({"users": ["bob", "carol"]}, "channel"),
        ({"users": []}, "channel"),
        ({"users": ["helper.bot"], "name": "Team"}, "channel"),
        ({"users": ["bob", "carol"], "resolvedUsers": ["bob"]}, "dm"),
        ({"users": ["bob"], "resolvedUsers": ["bob", "carol"]}, "channel"),
        ({"users": ["bob"], "orgs": ["eng"], "resolvedOrgs": []}, "dm"),
    ],
)
def test_kind_of_a_new_room_follows_from_the_fields(fields: dict[str, object], kind: str) -> None:
    assert only_change(decided(snapshot(PEOPLE), create(**fields))).room.kind == kind


def test_dm_has_two_members_without_roles() -> None:
    memberships = dm("alice", "bob")
    assert [membership.roles for membership in memberships.values()] == [None, None]
    assert {account: membership.name for account, membership in memberships.items()} == {"alice": "bob", "bob": "alice"}


def test_dm_has_no_key() -> None:
    written = only_change(decided(snapshot(PEOPLE), create(users=["bob"])))
    assert (written.high, written.stage) == (None, None)


def test_nobody_is_sent_a_key_of_a_dm() -> None:
    (entry,) = decided(snapshot(PEOPLE), create(users=["bob"])).entries
    assert (entry.joiners, entry.high) == ((), None)


def test_dm_is_created_with_its_participants_sorted_by_user_id() -> None:
    people = [User("u2", "alice"), User("u1", "bob")]
    creation = only_change(decided(snapshot(people), create(users=["bob"]))).creation
    assert creation is not None
    assert creation.participants == (("u1", "bob"), ("u2", "alice"))


def test_dm_has_no_stored_name() -> None:
    assert only_change(decided(snapshot(PEOPLE), create(users=["bob"]))).room.name == ""


@pytest.mark.parametrize(("requester", "title"), [("alice", "Alice Chen 陳愛麗"), ("bob", "Bob"), ("carol", "carol")])
def test_dm_is_titled_with_the_other_persons_names(requester: str, title: str) -> None:
    other = "bob" if requester != "bob" else "carol"
    assert dm(requester, other)[other].title == title


def test_bot_dm_is_titled_with_the_bots_app() -> None:
    assert dm("carol", "helper.bot", {"helper.bot": "Helper App"})["carol"].title == "Helper App"


def test_bot_dm_without_an_app_is_titled_with_the_bots_account() -> None:
    assert dm("carol", "helper.bot")["carol"].title == "helper.bot"


def test_only_the_person_in_a_bot_dm_is_subscribed() -> None:
    memberships = dm("alice", "helper.bot")
    assert {account: membership.subscribed for account, membership in memberships.items()} == {
        "alice": True,
        "helper.bot": False,
    }


def test_nobody_is_subscribed_in_a_dm() -> None:
    assert not any(membership.subscribed for membership in dm("alice", "bob").values())


def test_bot_in_a_bot_dm_counts_as_an_app() -> None:
    written = only_change(decided(snapshot(PEOPLE), create(users=["helper.bot"])))
    assert (written.users_delta, written.apps_delta) == (1, 1)


@pytest.mark.parametrize(("kind", "other"), [(Kind.DM, "bob"), (Kind.BOT_DM, "p_app")])
def test_repeated_create_of_a_dm_writes_the_missing_membership(kind: Kind, other: str) -> None:
    decision = decided(snapshot(PEOPLE, room(kind), ["alice"]), create(users=[other]))
    assert joined(decision) == [other]
    assert only_change(decision).joined[0].name == "alice"
    assert only_change(decision).high is None


def test_repeated_create_of_a_complete_dm_has_nothing_to_do() -> None:
    decision = decided(snapshot(PEOPLE, room(Kind.DM), ["alice", "bob"]), create(users=["bob"]))
    assert decision.changes == ()
