"""Contract, sections 1, 3 and 5: rooms of two have no key, no roles, and the other's name."""

import pytest

from roomkeys.membership import Kind, Membership, User
from tests.unit.builders import change, create, decided, joined, room, snapshot, user

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
    written = change(decided(snapshot(PEOPLE, apps=apps), event))
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
def test_the_kind_of_room_follows_from_what_is_named(fields: dict[str, object], kind: str) -> None:
    assert change(decided(snapshot(PEOPLE), create(**fields))).room.kind == kind


def test_a_dm_has_two_members_without_roles() -> None:
    memberships = dm("alice", "bob")
    assert [membership.roles for membership in memberships.values()] == [None, None]
    assert {account: membership.name for account, membership in memberships.items()} == {
        "alice": "bob",
        "bob": "alice",
    }


def test_a_dm_has_no_key() -> None:
    written = change(decided(snapshot(PEOPLE), create(users=["bob"])))
    assert (written.high, written.stage) == (None, None)


def test_nobody_is_sent_a_key_of_a_dm() -> None:
    (owed,) = decided(snapshot(PEOPLE), create(users=["bob"])).owed
    assert (owed.joiners, owed.high) == ((), None)


def test_a_dm_is_founded_with_both_participants_sorted_by_user_id() -> None:
    people = [User("u2", "alice"), User("u1", "bob")]
    creation = change(decided(snapshot(people), create(users=["bob"]))).creation
    assert creation is not None
    assert creation.participants == (("u1", "bob"), ("u2", "alice"))


def test_a_dm_has_no_name_of_its_own() -> None:
    assert change(decided(snapshot(PEOPLE), create(users=["bob"]))).room.name == ""


@pytest.mark.parametrize(
    ("requester", "title"), [("alice", "Alice Chen 陳愛麗"), ("bob", "Bob"), ("carol", "carol")]
)
def test_a_dm_is_titled_with_the_others_names(requester: str, title: str) -> None:
    other = "bob" if requester != "bob" else "carol"
    assert dm(requester, other)[other].title == title


def test_a_conversation_with_a_bot_is_titled_with_its_app() -> None:
    assert dm("carol", "helper.bot", {"helper.bot": "Helper App"})["carol"].title == "Helper App"


def test_a_bot_without_an_app_is_titled_with_its_account() -> None:
    assert dm("carol", "helper.bot")["carol"].title == "helper.bot"


def test_only_the_human_of_a_bot_dm_is_subscribed() -> None:
    memberships = dm("alice", "helper.bot")
    assert {account: membership.subscribed for account, membership in memberships.items()} == {
        "alice": True,
        "helper.bot": False,
    }


def test_nobody_is_subscribed_in_a_dm() -> None:
    assert not any(membership.subscribed for membership in dm("alice", "bob").values())


def test_the_bot_of_a_bot_dm_counts_as_an_app() -> None:
    written = change(decided(snapshot(PEOPLE), create(users=["helper.bot"])))
    assert (written.users_delta, written.apps_delta) == (1, 1)


@pytest.mark.parametrize(("kind", "other"), [(Kind.DM, "bob"), (Kind.BOT_DM, "p_app")])
def test_creating_a_dm_again_writes_the_missing_membership(kind: Kind, other: str) -> None:
    decision = decided(snapshot(PEOPLE, room(kind), ["alice"]), create(users=[other]))
    assert joined(decision) == [other]
    assert change(decision).joined[0].name == "alice"
    assert change(decision).high is None


def test_creating_a_dm_again_with_nobody_missing_is_nothing_to_do() -> None:
    decision = decided(snapshot(PEOPLE, room(Kind.DM), ["alice", "bob"]), create(users=["bob"]))
    assert decision.changes == ()
