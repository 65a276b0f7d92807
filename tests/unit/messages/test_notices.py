"""The exact bodies of notices and results, their recipients and order. (docs/contract.md, section 3)"""

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
    only_outcome,
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


def sent(outcome: Outcome) -> list[tuple[str, str]]:
    return [(notice.subject, notice.body.decode()) for notice in notices(outcome)]


def body(outcome: Outcome, subject: str) -> str:
    (only,) = (text for to, text in sent(outcome) if to == subject)
    return only


def of_room(outcome: Outcome) -> str:
    return body(outcome, "chat.room.r1.event.member")


def answer(outcome: Outcome) -> Notice:
    notice = result(outcome)
    assert notice is not None
    return notice


def test_new_member_of_a_channel_gets_a_notice() -> None:
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


def test_notice_of_a_member_without_history_says_since_when() -> None:
    joiner = replace(BOB, joined_ms=AT + 5, history_from_ms=AT + 5)
    text = body(replace(OK, added=(joiner,)), "chat.user.bob.event.subscription.update")
    assert (
        '"roomType":"channel","historySharedSince":"2025-05-11T21:46:40.005Z",'
        '"joinedAt":"2025-05-11T21:46:40.005Z","hasMention"' in text
    )


def test_person_in_a_bot_dm_is_subscribed_and_has_no_roles() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, apps={"helper.bot": "Helper"}), create(users=["helper.bot"])))
    assert sent(outcome) == [
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


def test_each_member_of_a_dm_gets_a_notice_named_after_the_other() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE), create(users=["bob"])))
    alices, bobs = (orjson.loads(text) for _, text in sent(outcome))
    assert (alices["roomName"], alices["subscription"]["name"]) == ("Bob", "bob")
    assert (bobs["roomName"], bobs["subscription"]["name"]) == ("Alice", "alice")
    assert "isSubscribed" not in alices["subscription"]


def test_platform_bot_gets_a_notice_that_marks_it_as_bot() -> None:
    app = replace(BOB, account="p_app")
    text = body(replace(OK, added=(app,)), "chat.user.p_app.event.subscription.update")
    assert '"u":{"id":"u1","account":"p_app","isBot":true}' in text


def test_removed_member_gets_a_notice() -> None:
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
def test_account_without_a_subject_gets_no_notice(account: str) -> None:
    gone = Member("s1", "u1", account)
    assert sent(replace(OK, added=(replace(BOB, account=account),), removed=(gone,))) == []


def test_room_notice_names_the_added_accounts() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob")))
    assert of_room(outcome) == (
        '{"type":"member_added","roomId":"r1","roomName":"Team","roomType":"channel","accounts":["bob"],'
        f'"siteId":"{SITE}","requesterAccount":"alice","joinedAt":1747000000000,"timestamp":1747000001000}}'
    )


def test_room_notice_says_since_when_history_is_shared() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob", history={"mode": "none"})))
    assert of_room(outcome).endswith(
        '"joinedAt":1747000000000,"historySharedSince":1747000000000,"timestamp":1747000001000}'
    )


def test_room_notice_of_an_org_without_users_has_no_accounts() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add(orgs=["void"])))
    assert '"accounts":[],' in of_room(outcome)


def test_room_notice_names_the_account_that_left() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice", "bob"]), remove("alice")))
    assert of_room(outcome) == (
        f'{{"type":"member_left","roomId":"r1","accounts":["alice"],"siteId":"{SITE}","timestamp":1747000001000}}'
    )


def test_room_notice_names_the_removed_org() -> None:
    before = snapshot([*PEOPLE, user("carol", "eng")], room("channel", "eng"), ["alice", "carol"])
    outcome = only_outcome(decided(before, remove(orgId="eng", accounts=None)))
    assert of_room(outcome) == (
        '{"type":"member_removed","roomId":"r1","accounts":["carol"],'
        f'"siteId":"{SITE}","orgId":"eng","timestamp":1747000001000}}'
    )


def test_new_room_gets_no_room_notice() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE), create(name="Team", users=["bob"])))
    assert [subject for subject, _ in sent(outcome)] == [
        "chat.user.alice.event.subscription.update",
        "chat.user.bob.event.subscription.update",
    ]


def test_members_get_their_notices_before_the_room() -> None:
    outcome = only_outcome(decided(snapshot(PEOPLE, room(), ["alice"]), add("bob")))
    assert [subject for subject, _ in sent(outcome)] == [
        "chat.user.bob.event.subscription.update",
        "chat.room.r1.event.member",
    ]


@pytest.mark.parametrize("type_", ["member_added", "member_removed"])
@pytest.mark.parametrize("count", [0, 1, 1_036, 1_037, 3_000])
def test_long_list_of_accounts_is_split_without_loss(type_: str, count: int) -> None:
    accounts = [f"{BLOCK[:245]}{number:05}" for number in range(count)]
    outcome = replace(OK, notice=MembersNotice(type_, "Team", "channel"))
    if type_ == "member_added":
        outcome = replace(outcome, added=tuple(replace(BOB, account=account) for account in accounts))
    else:
        outcome = replace(outcome, removed=tuple(member(account) for account in accounts))
    texts = [text for subject, text in sent(outcome) if subject == "chat.room.r1.event.member"]
    lists = [orjson.loads(text)["accounts"] for text in texts]
    assert [account for accounts in lists for account in accounts] == accounts
    assert all(len(orjson.dumps(accounts)) <= NOTICE_ACCOUNTS_BYTES + 2 for accounts in lists)
    assert len(lists) == max(1, -(-count * 253 // NOTICE_ACCOUNTS_BYTES))
    assert all(accounts or count == 0 for accounts in lists)


def test_ok_result_goes_to_the_requester() -> None:
    assert answer(OK) == Notice(
        f"chat.user.alice.response.{REQUEST}",
        b'{"requestId":"0197a000-0000-7000-8000-000000000001","operation":"room.member.add",'
        b'"status":"ok","roomId":"r1","timestamp":1747000001000}',
        REQUEST,
    )


def test_error_result_says_why() -> None:
    refused = replace(OK, operation=Operation.ROTATE, error=errors.ROOM_NOT_FOUND)
    assert answer(refused).body == (
        b'{"requestId":"0197a000-0000-7000-8000-000000000001","operation":"room.key.rotate",'
        b'"status":"error","roomId":"r1","error":"the room does not exist","code":"not_found",'
        b'"reason":"room_not_found","timestamp":1747000001000}'
    )


def test_result_of_an_event_without_a_room_names_none() -> None:
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
def test_result_names_its_operation(operation: Operation, name: str) -> None:
    assert orjson.loads(answer(replace(OK, operation=operation)).body)["operation"] == name


def test_event_without_a_request_id_has_no_result() -> None:
    assert result(replace(OK, request_id=None)) is None


@pytest.mark.parametrize("requester", [None, "", "a b", "a.b", "helper.bot", "*", ">"])
def test_requester_without_a_subject_gets_no_result(requester: str | None) -> None:
    assert result(replace(OK, requester=requester)) is None
