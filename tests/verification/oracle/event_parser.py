"""Parses events as docs/contract.md demands (sections 1 and 3), without the code of the worker."""

import json
import re
from dataclasses import dataclass, field
from math import inf
from typing import Any

import orjson

from tests.unit.decisions.model import is_bot
from tests.verification.oracle.recording import Event

INVALID_EVENT = ("bad_request", "invalid_event")
INVALID_ACCOUNT = ("bad_request", "invalid_account")
INVALID_ROOM = ("bad_request", "invalid_room")
OPERATIONS = {
    "create": "room.create",
    "member.add": "room.member.add",
    "member.remove": "room.member.remove",
    "key.rotate": "room.key.rotate",
}
REQUESTERS = ("requesterAccount", "requester")
"""The fields that name the requester; in an invalid event either of them counts."""
_LONGEST_TEXT = 1_024
_LAST_MS = 253_402_300_799_999
_NO_TOKEN = re.compile("[\\s.*>\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UUID = re.compile("[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_USERS = {"create": ("users", "resolvedUsers"), "member.add": ("users",), "member.remove": ("accounts",)}
_ORGS = {"create": ("orgs", "resolvedOrgs"), "member.add": ("orgs",)}
_TEXTS: dict[str, dict[str, float]] = {
    "create": {"name": _LONGEST_TEXT},
    "member.remove": {"account": inf, "orgId": _LONGEST_TEXT},
}


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """What an event asks for.

    `requester` is the account that gets the result, and `refusal` is the code and reason of an event that is
    invalid whatever the database holds.
    """

    suffix: str
    room: str | None
    requester: str | None
    body: dict[str, Any] = field(repr=False)
    refusal: tuple[str, str] | None = None

    @property
    def operation(self) -> str:
        """Return the operation as results name it."""
        of_org = self.suffix == "member.remove" and self.body.get("orgId")
        return OPERATIONS[self.suffix] + ("_org" if of_org else "")


def is_token(value: object) -> bool:
    """Return True if a value can be one token of a subject."""
    return isinstance(value, str) and 0 < len(value.encode(errors="replace")) <= 255 and not _NO_TOKEN.search(value)


def is_recipient(account: str) -> bool:
    """Return True if a member must be sent keys: bots and accounts that are no tokens are not."""
    return is_token(account) and not is_bot(account)


def is_request_id(value: str | None) -> bool:
    """Return True if a request id is a UUID."""
    return value is not None and _UUID.fullmatch(value) is not None


def parse(event: Event) -> ParsedEvent | None:
    """Parse an event; None: its operation is not one of the worker's."""
    suffix = next((name for name in OPERATIONS if event.subject.endswith(f".{name}")), None)
    if suffix is None:
        return None
    body = _object(event.body)
    if not isinstance(body, dict):
        return ParsedEvent(suffix, None, None, {}, INVALID_EVENT)
    room = body["roomId"] if is_token(body.get("roomId")) else None
    refusal = _refusal(suffix, body)
    named = (body.get(name) for name in (REQUESTERS if refusal else [_requester(suffix)]))
    requester = next((value for value in named if is_token(value)), None)
    return ParsedEvent(suffix, room, requester, _with_resolved(suffix, body), refusal)


def _object(body: bytes) -> Any:
    """Parse JSON; with numbers of any size and halves of surrogate pairs, as the standard library reads them."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body.decode(), parse_int=lambda text: int(text[:30]), parse_constant=int)
    except (ValueError, RecursionError):
        return None


def _requester(suffix: str) -> str:
    return REQUESTERS[0] if suffix in ("create", "member.add") else REQUESTERS[1]


def _with_resolved(suffix: str, body: dict[str, Any]) -> dict[str, Any]:
    """Replace the users and orgs of a create by those that the producer resolved, if it did."""
    if suffix != "create":
        return body
    resolved = {name: body.get(f"resolved{name.title()}") for name in ("users", "orgs")}
    return body | {name: value for name, value in resolved.items() if value is not None}


def _refusal(suffix: str, body: dict[str, Any]) -> tuple[str, str] | None:
    room = body.get("roomId")
    if not isinstance(room, str) or not room:
        return INVALID_EVENT
    if not is_token(room):
        return INVALID_ROOM
    if not _has_valid_fields(suffix, body) or (suffix == "member.remove" and not _names_one_thing(body)):
        return INVALID_EVENT
    return None if all(map(_is_account, _accounts(suffix, body))) else INVALID_ACCOUNT


def _has_valid_fields(suffix: str, body: dict[str, Any]) -> bool:
    stamp = body.get("timestamp")
    history = body.get("history") if suffix == "member.add" else None
    mode = history.get("mode") if isinstance(history, dict) else None
    return (
        (stamp is None or (type(stamp) is int and 0 <= stamp <= _LAST_MS))
        and isinstance(body.get(_requester(suffix)), str)
        and all(_is_list(body.get(name), str) for name in _USERS.get(suffix, ()))
        and all(_is_list(body.get(name), str, least=1) for name in _ORGS.get(suffix, ()))
        and all(_is_text(body.get(name), most) for name, most in _TEXTS.get(suffix, {}).items())
        and (suffix != "create" or _is_list(body.get("channels"), object))
        and (history is None or isinstance(history, dict))
        and (mode is None or isinstance(mode, str))
    )


def _is_list(value: object, of: type, least: int = 0) -> bool:
    if value is None:
        return True
    texts = [item for item in value if isinstance(item, of)] if isinstance(value, list) else None
    if texts is None or len(texts) < len(value):  # type: ignore[arg-type]  # a list
        return False
    return not least or all(least <= len(str(text)) <= _LONGEST_TEXT for text in texts)


def _is_text(value: object, most: float) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= most)


def _names_one_thing(body: dict[str, Any]) -> bool:
    """Return True if a removal names either accounts, perhaps none, or an org."""
    accounts = bool(body.get("account")) or bool(body.get("accounts"))
    if body.get("orgId"):
        return not accounts
    return accounts or "accounts" in body


def _accounts(suffix: str, body: dict[str, Any]) -> list[str]:
    resolved = _with_resolved(suffix, body)
    users = resolved.get("accounts" if suffix == "member.remove" else "users") if suffix != "key.rotate" else None
    one = [resolved["account"]] if suffix == "member.remove" and resolved.get("account") else []
    return [*(users or []), *one, resolved[_requester(suffix)]]


def _is_account(value: str) -> bool:
    return is_token(value.removesuffix(".bot"))
