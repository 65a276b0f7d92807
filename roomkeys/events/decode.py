"""Decoding a message of the events stream into an event. (docs/contract.md, section 1)

Everything is checked here that can be checked without the database. A message that fails a check becomes an
`InvalidEvent` and is never retried.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

import orjson
from pydantic import ValidationError

from roomkeys.errors import Rejection, invalid_account, invalid_event, invalid_room
from roomkeys.events.bodies import AddBody, CreateBody, RemoveBody, RotateBody
from roomkeys.events.event import Add, AnyEvent, Create, InvalidEvent, Remove, Rotate, StreamMessage
from roomkeys.membership import Kind
from roomkeys.subjects import Operation, operation_of
from roomkeys.tokens import MAX_TOKEN_BYTES, is_account, is_bot, is_token

_REQUESTERS: Final = ("requesterAccount", "requester")

_PIECES: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)("?)|[{}\[\]:,]', re.DOTALL)
"""The pieces of JSON that show where a field of the outermost object begins: texts and punctuation."""

_MAX_DIGITS: Final = 20

_TOKEN_RULE: Final = f"1 to {MAX_TOKEN_BYTES} bytes without dots, wildcards, white space and control characters"


def parse(body: bytes) -> dict[str, object] | None:
    """Return the body's JSON object, or None if it is anything else: bad JSON or UTF-8, too deep, a list."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_odd_values(body)
    return document if isinstance(document, dict) else None


def _parse_odd_values(body: bytes) -> object:
    """Parse JSON with values that orjson refuses: 1e400, integers of any length, and halves of surrogate pairs."""
    try:
        return json.loads(body.decode(), parse_int=_number, parse_constant=int)  # int refuses NaN and Infinity
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float:
    return int(text) if len(text) < _MAX_DIGITS else float(text)


def room_of(document: dict[str, object] | None) -> str | None:
    """Return the room that the event is about, or None if the event names no possible room."""
    room_id = None if document is None else document.get("roomId")
    return room_id if is_token(room_id) else None


def decode(origin: StreamMessage, document: dict[str, object] | None) -> AnyEvent | None:
    """Return the event in a message with the parsed body `document`; None if it is another service's."""
    operation = operation_of(origin.subject)
    if operation is None:
        return None
    if operation is Operation.REMOVE and document is not None and document.get("orgId"):
        operation = Operation.REMOVE_ORG
    try:
        return _event(origin, operation, document)
    except Rejection as error:
        requester = _requester_of(document, origin.body)
        return InvalidEvent(origin, operation, room_of(document), requester, error.info)


def _event(origin: StreamMessage, operation: Operation, document: dict[str, object] | None) -> AnyEvent:
    if document is None:
        raise invalid_event("the body is not a JSON object")
    room_id = document.get("roomId")
    if not isinstance(room_id, str) or not room_id:
        raise invalid_event("roomId is missing or not a string")
    if not is_token(room_id):
        raise invalid_room(f"roomId is not a token: {_TOKEN_RULE}")
    try:
        return _DECODERS[operation](origin, operation, room_id, document)
    except ValidationError as error:
        fields = sorted({".".join(str(name) for name in item["loc"][:1]) for item in error.errors()})
        raise invalid_event(f"wrong shape: {', '.join(fields)}") from None


def _create(origin: StreamMessage, operation: Operation, room_id: str, document: dict[str, object]) -> Create:
    body = CreateBody.model_validate(document)
    resolved = body.resolved_users
    users = _accounts(body.users, "users") if resolved is None else _accounts(resolved, "resolvedUsers")
    orgs = _distinct(body.orgs if body.resolved_orgs is None else body.resolved_orgs)
    kind = Kind.CHANNEL
    if not body.name and not orgs and not body.channels and len(users) == 1:
        kind = Kind.BOT_DM if is_bot(users[0]) else Kind.DM
    requester = _account(body.requester, "requesterAccount")
    at_ms = body.timestamp or origin.time_ms
    return Create(origin, operation, room_id, requester, at_ms, users, body.name or "", kind, orgs)


def _add(origin: StreamMessage, operation: Operation, room_id: str, document: dict[str, object]) -> Add:
    body = AddBody.model_validate(document)
    share_history = body.history is None or body.history.mode != "none"
    requester, users = _account(body.requester, "requesterAccount"), _accounts(body.users, "users")
    orgs = _distinct(body.orgs)
    return Add(origin, operation, room_id, requester, body.timestamp or origin.time_ms, users, orgs, share_history)


def _remove(origin: StreamMessage, operation: Operation, room_id: str, document: dict[str, object]) -> Remove:
    body = RemoveBody.model_validate(document)
    one = (_account(body.account, "account"),) if body.account else ()
    accounts = _distinct((*one, *_accounts(body.accounts, "accounts")))
    if body.org and accounts:
        raise invalid_event("an org and accounts cannot be removed by one event")
    if not body.org and not accounts and "accounts" not in document:
        raise invalid_event("account, accounts or orgId must say who is removed")
    requester, at_ms = _account(body.requester, "requester"), body.timestamp or origin.time_ms
    return Remove(origin, operation, room_id, requester, at_ms, accounts, body.org or None)


def _rotate(origin: StreamMessage, operation: Operation, room_id: str, document: dict[str, object]) -> Rotate:
    body = RotateBody.model_validate(document)
    return Rotate(
        origin, operation, room_id, _account(body.requester, "requester"), body.timestamp or origin.time_ms, ()
    )


_DECODERS: dict[Operation, Callable[[StreamMessage, Operation, str, dict[str, object]], AnyEvent]] = {
    Operation.CREATE: _create,
    Operation.ADD: _add,
    Operation.REMOVE: _remove,
    Operation.REMOVE_ORG: _remove,
    Operation.ROTATE: _rotate,
}


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _account(value: str, field: str) -> str:
    if not is_account(value):
        raise invalid_account(f"{field} is not a token: {_TOKEN_RULE}")
    return value


def _accounts(values: Iterable[str], field: str) -> tuple[str, ...]:
    return _distinct(_account(value, f"an account in {field}") for value in values)


def _requester_of(document: dict[str, object] | None, body: bytes) -> str | None:
    """Return the account that the result goes to; in a body that is not JSON, the one that can be made out."""
    found = _texts_in(body) if document is None else document
    return next((value for value in map(found.get, _REQUESTERS) if is_token(value)), None)


def _texts_in(body: bytes) -> dict[str, object]:
    """Return the texts among the fields of what should have been one JSON object."""
    found: dict[str, object] = {}
    depth, name, before = 0, b"", b""
    for piece in _PIECES.finditer(body):
        depth += (piece[0] in b"{[") - (piece[0] in b"}]")
        if piece[2] and depth == 1:
            if before != b":":
                name = piece[1]
            elif name.decode(errors="replace") in _REQUESTERS:
                found[name.decode()] = _text(piece[0])
        before = piece[0]
    return found


def _text(piece: bytes) -> object:
    try:
        return orjson.loads(piece)
    except orjson.JSONDecodeError:
        return None
