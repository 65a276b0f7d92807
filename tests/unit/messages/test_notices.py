"""Contract, section 3: the exact bodies of notices and results, and who gets them in which order."""

from dataclasses import replace

import orjson
import pytest

from roomkeys import errors
from roomkeys.decisions.decision import MembersNotice, Outcome
from roomkeys.membership import Kind, Member, Membership
from roomkeys.messages.notices import NOTICE_ACCOUNTS_BYTES, Notice, notices, result
from roomkeys.subjects import Operation
from tests.unit.builders import (
    AT,
    NOW,
    REQUEST,
    SITE,
    add,
    create,
    decided,
    member,
    outcome,
    remove,
    room,
    snapshot,
    user,
)

PEOPLE = [user("alice", eng="Alice"), user("bob", eng="Bob"), user("helper.bot")]
FLAGS = '"hasMention":false,"alert":false,"muted":false,"favorite":false,"hasGroupMention":false,"hasUnread":false'
BOB = Membership("s1", "u1", "bob", "r1", SITE, ("member",), "Team", Kind.CHANNEL, AT, title="Team")
OK = Outcome(1, Operation.ADD, NOW, "r1", "alice", REQUEST, SITE)
BLOCK = "a" * 250


def sent(what: Outcome) -> list[tuple[str, str]]:
    return [(notice.subject, notice.body.decode()) for notice in notices(what)]


def body(what: Outcome, subject: str) -> str:
    (only,) = (text for to, text in sent(what) if to == subject)
    return only


def of_room(what: Outcome) -> str:
    return body(what, "chat.room.r1.event.member")


def answer(what: Outcome) -> Notice:
    notice = result(what)
    assert notice is not None
    return notice


def test_a_new_member_of_a_channel_is_told_so() -> None:
    assert sent(replace(OK, added=(BOB,))) == [
        (
            "chat.user.bob.event.subscription.update",
            (
                '{"userId":"u1","subscription":{"id":"s1","u":{"id":"u1","account":"bob","isBot":false},'
                f'"roomId":"r1","siteId":"{SITE}","roles":["member"],"name":"Team","roomType":"channel",'
                f'"joinedAt":"2025-05-11T21:46:40Z",{FLAGS}}},'
                '"action":"added","roomName":"Team","timestamp":1747000001000}'
            ),
        )
    ]


def test_a_member_who_sees_no_history_is_told_since_when() -> None:
    newcomer = replace(BOB, joined_ms=AT + 5, history_from_ms=AT + 5)
    text = body(replace(OK, added=(newcomer,)), "chat.user.bob.event.subscription.update")
    assert (
        '"roomType":"channel","historySharedSince":"2025-05-11T21:46:40.005Z",'
        '"joinedAt":"2025-05-11T21:46:40.005Z","hasMention"' in text
    )


def test_the_human_of_a_bot_dm_is_subscribed_and_has_no_roles() -> None:
    told = outcome(decided(snapshot(PEOPLE, apps={"helper.bot": "Helper"}), create(users=["helper.bot"])))
    assert sent(told) == [
        (
            "chat.user.alice.event.subscription.update",
            (
                '{"userId":"u-alice","subscription":{"id":"new-1",'
                '"u":{"id":"u-alice","account":"alice","isBot":false},"roomId":"r1",'
                f'"siteId":"{SITE}","roles":null,"name":"helper.bot","roomType":"botDM","isSubscribed":true,'
                f'"joinedAt":"2025-05-11T21:46:40Z",{FLAGS}}},'
                '"action":"added","roomName":"Helper","timestamp":1747000001000}'
            ),
        )
    ]


def test_both_members_of_a_dm_are_told_of_the_other() -> None:
    told = outcome(decided(snapshot(PEOPLE), create(users=["bob"])))
    alices, bobs = (orjson.loads(text) for _, text in sent(told))
    assert (alices["roomName"], alices["subscription"]["name"]) == ("Bob", "bob")
    assert (bobs["roomName"], bobs["subscription"]["name"]) == ("Alice", "alice")
    assert "isSubscribed" not in alices["subscription"]


def test_a_platform_bot_is_told_like_anybody_and_marked() -> None:
    app = replace(BOB, account="p_app")
    text = body(replace(OK, added=(app,)), "chat.user.p_app.event.subscription.update")
    assert '"u":{"id":"u1","account":"p_app","isBot":true}' in text


def test_a_removed_member_is_told_so() -> None:
    assert sent(replace(OK, removed=(Member("s1", "u1", "bob"),))) == [
        (
            "chat.user.bob.event.subscription.update",
            (
                '{"userId":"u1","subscription":{"roomId":"r1","roomType":"channel",'
                '"u":{"id":"u1","account":"bob","isBot":false}},"action":"removed","timestamp":1747000001000}'
            ),
        )
    ]


@pytest.mark.parametrize("account", ["helper.bot", "a b", "a\r\nPUB x 0\r\n", "*", ""])
def test_who_has_no_subject_is_told_nothing(account: str) -> None:
    gone = Member("s1", "u1", account)
    assert sent(replace(OK, added=(replace(BOB, account=account),), removed=(gone,))) == []


def test_the_room_is_told_who_was_added() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob")))
    assert of_room(told) == (
        '{"type":"member_added","roomId":"r1","roomName":"Team","roomType":"channel","accounts":["bob"],'
        f'"siteId":"{SITE}","requesterAccount":"alice","joinedAt":1747000000000,"timestamp":1747000001000}}'
    )


def test_the_room_is_told_since_when_history_is_shared() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history={"mode": "none"})))
    assert of_room(told).endswith(
        '"joinedAt":1747000000000,"historySharedSince":1747000000000,"timestamp":1747000001000}'
    )


def test_the_room_is_told_of_an_org_alone_with_no_accounts() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["void"])))
    assert '"accounts":[],' in of_room(told)


def test_the_room_is_told_who_left() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice")))
    assert of_room(told) == (
        f'{{"type":"member_left","roomId":"r1","accounts":["alice"],"siteId":"{SITE}","timestamp":1747000001000}}'
    )


def test_the_room_is_told_which_org_was_removed() -> None:
    held = snapshot([*PEOPLE, user("carol", "eng")], room("channel", "eng"), ["alice", "carol"])
    told = outcome(decided(held, remove(orgId="eng", accounts=None)))
    assert of_room(told) == (
        '{"type":"member_removed","roomId":"r1","accounts":["carol"],'
        f'"siteId":"{SITE}","orgId":"eng","timestamp":1747000001000}}'
    )


def test_a_created_room_is_told_nothing() -> None:
    told = outcome(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert [subject for subject, _ in sent(told)] == [
        "chat.user.alice.event.subscription.update",
        "chat.user.bob.event.subscription.update",
    ]


def test_members_are_told_before_the_room() -> None:
    told = outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob")))
    assert [subject for subject, _ in sent(told)] == [
        "chat.user.bob.event.subscription.update",
        "chat.room.r1.event.member",
    ]


@pytest.mark.parametrize("type_", ["member_added", "member_removed"])
@pytest.mark.parametrize("count", [0, 1, 1_036, 1_037, 3_000])
def test_a_long_list_of_accounts_is_split_and_complete(type_: str, count: int) -> None:
    accounts = [f"{BLOCK[:245]}{number:05}" for number in range(count)]
    told = replace(OK, notice=MembersNotice(type_, "Team", "channel"))
    if type_ == "member_added":
        told = replace(told, added=tuple(replace(BOB, account=account) for account in accounts))
    else:
        told = replace(told, removed=tuple(member(account) for account in accounts))
    parts = [text for subject, text in sent(told) if subject == "chat.room.r1.event.member"]
    lists = [orjson.loads(text)["accounts"] for text in parts]
    assert [account for accounts in lists for account in accounts] == accounts
    assert all(len(orjson.dumps(accounts)) <= NOTICE_ACCOUNTS_BYTES + 2 for accounts in lists)
    assert len(lists) == max(1, -(-count * 253 // NOTICE_ACCOUNTS_BYTES))
    assert all(accounts or count == 0 for accounts in lists)


def test_an_ok_result_goes_to_the_requester() -> None:
    assert answer(OK) == Notice(
        f"chat.user.alice.response.{REQUEST}",
        b'{"requestId":"0197a000-0000-7000-8000-000000000001","operation":"room.member.add",'
        b'"status":"ok","roomId":"r1","timestamp":1747000001000}',
        REQUEST,
    )


def test_an_error_result_says_why() -> None:
    refused = replace(OK, operation=Operation.ROTATE, error=errors.room_not_found().info)
    assert answer(refused).body == (
        b'{"requestId":"0197a000-0000-7000-8000-000000000001","operation":"room.key.rotate",'
        b'"status":"error","roomId":"r1","error":"the room does not exist","code":"not_found",'
        b'"reason":"room_not_found","timestamp":1747000001000}'
    )


def test_a_result_without_a_room_names_none() -> None:
    refused = replace(OK, room_id=None, error=errors.invalid_event("the body is not a JSON object").info)
    assert "roomId" not in orjson.loads(answer(refused).body)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (Operation.CREATE, "room.create"),
        (Operation.ADD, "room.member.add"),
        (Operation.REMOVE, "room.member.remove"),
        (Operation.REMOVE_ORG, "room.member.remove_org"),
        (Operation.ROTATE, "room.key.rotate"),
    ],
)
def test_a_result_names_its_operation(operation: Operation, name: str) -> None:
    assert orjson.loads(answer(replace(OK, operation=operation)).body)["operation"] == name


def test_without_a_request_id_there_is_no_result() -> None:
    assert result(replace(OK, request_id=None)) is None


@pytest.mark.parametrize("requester", [None, "", "a b", "a.b", "helper.bot", "*", ">"])
def test_a_requester_without_a_subject_gets_no_result(requester: str | None) -> None:
    assert result(replace(OK, requester=requester)) is None
