"""Notices and results of an outcome, as subjects and JSON bodies. (docs/contract.md, section 3)

They are made from the outcome alone, so that recovery sends again exactly what was decided before the crash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from roomkeys import subjects
from roomkeys.decisions.decision import MEMBER_ADDED, MembersNotice, Outcome
from roomkeys.membership import UNSET_FLAGS, Kind, Member, Membership
from roomkeys.tokens import is_bot, is_token

NOTICE_ACCOUNTS_BYTES: Final = 256 * 1024
"""The most bytes of accounts in one notice. A longer list becomes several notices."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to publish. `request_id` is the event's, if it has one."""

    subject: str
    body: bytes
    request_id: str | None


def notices(outcome: Outcome) -> Iterator[Notice]:
    """Yield the notices of an event to its members and its room, in the order in which they are sent."""
    request_id = outcome.request_id
    for membership in outcome.added:
        if is_token(membership.account):
            body = _added(membership, outcome.at_ms)
            yield Notice(subjects.subscription_update(membership.account), body, request_id)
    for member in outcome.removed:
        if is_token(member.account):
            yield Notice(subjects.subscription_update(member.account), _removed(member, outcome), request_id)
    if outcome.notice is not None and outcome.room_id is not None:
        members = outcome.added or outcome.removed
        for accounts in _chunks([member.account for member in members]):
            body = _members_changed(outcome, outcome.notice, accounts)
            yield Notice(subjects.room_member_event(outcome.room_id), body, request_id)


def result(outcome: Outcome) -> Notice | None:
    """Return the result, or None if a later chunk or slice has it, or if it has no requester to go to."""
    if not outcome.final or outcome.request_id is None or not is_token(outcome.requester):
        return None
    status = "ok" if outcome.error is None else "error"
    body: dict[str, object] = {"requestId": outcome.request_id, "operation": outcome.operation, "status": status}
    if outcome.room_id is not None:
        body["roomId"] = outcome.room_id
    if outcome.error is not None:
        body |= {"error": outcome.error.text, "code": outcome.error.code, "reason": outcome.error.reason}
    body["timestamp"] = outcome.at_ms
    subject = subjects.response(outcome.requester, outcome.request_id)
    return Notice(subject, orjson.dumps(body), outcome.request_id)


def _added(membership: Membership, at_ms: int) -> bytes:
    subscription: dict[str, object] = {
        "id": membership.id,
        "u": {"id": membership.user_id, "account": membership.account, "isBot": is_bot(membership.account)},
        "roomId": membership.room_id,
        "siteId": membership.site,
        "roles": membership.roles,
        "name": membership.name,
        "roomType": membership.kind,
    }
    if membership.subscribed:
        subscription["isSubscribed"] = True
    if membership.history_from_ms is not None:
        subscription["historySharedSince"] = _rfc3339(membership.history_from_ms)
    subscription["joinedAt"] = _rfc3339(membership.joined_ms)
    subscription |= dict.fromkeys(UNSET_FLAGS, False)
    notice = {"userId": membership.user_id, "subscription": subscription, "action": "added"}
    return orjson.dumps({**notice, "roomName": membership.title, "timestamp": at_ms})


def _removed(member: Member, outcome: Outcome) -> bytes:
    user = {"id": member.user_id, "account": member.account, "isBot": is_bot(member.account)}
    subscription = {"roomId": outcome.room_id, "roomType": Kind.CHANNEL.value, "u": user}
    return orjson.dumps(
        {"userId": member.user_id, "subscription": subscription, "action": "removed", "timestamp": outcome.at_ms}
    )


def _members_changed(outcome: Outcome, notice: MembersNotice, accounts: list[str]) -> bytes:
    body: dict[str, object] = {"type": notice.type, "roomId": outcome.room_id}
    if notice.type == MEMBER_ADDED:
        body |= {"roomName": notice.room_name, "roomType": notice.room_type}
    body |= {"accounts": accounts, "siteId": outcome.site}
    if notice.type == MEMBER_ADDED:
        body |= {"requesterAccount": outcome.requester, "joinedAt": notice.joined_ms}
        if notice.history_from_ms is not None:
            body["historySharedSince"] = notice.history_from_ms
    elif notice.org is not None:
        body["orgId"] = notice.org
    body["timestamp"] = outcome.at_ms
    return orjson.dumps(body)


def _chunks(accounts: list[str]) -> Iterator[list[str]]:
    """Cut accounts into chunks that each fit a message; an empty list is one chunk."""
    chunk: list[str] = []
    size = 0
    for account in accounts:
        size += len(account.encode()) + 3
        if size > NOTICE_ACCOUNTS_BYTES:
            yield chunk
            chunk, size = [], len(account.encode()) + 3
        chunk.append(account)
    yield chunk


def _rfc3339(epoch_ms: int) -> str:
    stamp = datetime.fromtimestamp(epoch_ms // 1000, UTC).replace(tzinfo=None).isoformat()
    return f"{stamp}.{epoch_ms % 1000:03d}Z" if epoch_ms % 1000 else f"{stamp}Z"
