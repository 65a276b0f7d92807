"""The rights that the worker needs at the broker, and a probe that finds out which of them are denied.

A user who may ask gets a description of its permissions from the broker. For any other one the broker says nothing
about rights until they are used. So the probe publishes an empty message on each subject, in a form that reaches
nobody: to an account that does not exist, and with a header with which no stream stores it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import orjson

from roomkeys import subjects
from roomkeys.errors import TransientError
from roomkeys.messages.frame import message
from worker.broker.connection import Broker
from worker.broker.permissions.denials import USER_INFO
from worker.settings import Settings
from worker.telemetry.logs import logger

_NOBODY: Final = "room-worker-probe"
"""An account, a room and a request id that do not exist."""
_STORED_NOWHERE: Final = {"Nats-Expected-Stream": _NOBODY}
_ANSWER_S: Final = 1.0
_SUBSCRIPTION: Final = 2**31
"""A subscription id that the client does not use."""

log = logger("rights")


@dataclass(frozen=True, slots=True)
class Right:
    """A right: `subject` as permissions name it, and a `probe` of it. Without an essential one nothing works.

    A probe that `is_heard` reaches plain subscribers of the subject, who may exist.
    """

    subject: str
    probe: str
    is_publish: bool = True
    is_essential: bool = False
    is_heard: bool = False

    def __str__(self) -> str:
        return f"{'publish' if self.is_publish else 'subscribe to'} {self.subject}"

    @property
    def frame(self) -> bytes:
        """Return the protocol bytes that use the right."""
        if self.is_publish:
            return message(self.probe, b"", _STORED_NOWHERE)
        return f"SUB {self.probe} {_SUBSCRIPTION}\r\nUNSUB {_SUBSCRIPTION}\r\n".encode()


_KEYS: Final = Right(subjects.room_key("*"), subjects.room_key(_NOBODY), is_essential=True)


def rights_of_the_loop(site: str) -> list[Right]:
    """Return what the loop needs. (docs/reliability.md)"""
    events, letters = subjects.events_stream(site), subjects.dead_letter_stream(site)
    api = [
        (f"STREAM.INFO.{events}", ""),
        (f"STREAM.MSG.GET.{events}", ""),
        (f"CONSUMER.CREATE.{events}", ""),
        (f"CONSUMER.MSG.NEXT.{events}.", _NOBODY),
    ]
    return [
        _KEYS,
        Right(subjects.subscription_update("*"), subjects.subscription_update(_NOBODY)),
        Right(subjects.response("*", "*"), subjects.response(_NOBODY, _NOBODY)),
        Right(subjects.room_member_event("*"), subjects.room_member_event(_NOBODY)),
        Right(subjects.dead_letter_subject(site), subjects.dead_letter_subject(site), is_heard=True),
        Right(f"$JS.API.STREAM.INFO.{letters}", f"$JS.API.STREAM.INFO.{letters}"),
        *(Right(f"$JS.API.{name}{'*' * bool(of)}", f"$JS.API.{name}{of}", is_essential=True) for name, of in api),
        Right("_INBOX.>", f"_INBOX.{_NOBODY}", is_publish=False, is_essential=True),
    ]


def rights_of(settings: Settings, *, loop: bool = True, key_service: bool = True) -> list[Right]:
    """Return what the roles of this process need."""
    of_the_loop = rights_of_the_loop(settings.site_id) if loop else []
    of_the_service = rights_of_the_key_service(settings.site_id) if key_service and settings.key_service else []
    return [*of_the_loop, *of_the_service]


def rights_of_the_key_service(site: str) -> list[Right]:
    """Return what the key service needs."""
    requests = {
        subjects.key_get(site): subjects.key_get(site, _NOBODY, _NOBODY),
        subjects.keys_batch(site): subjects.keys_batch(site, _NOBODY),
        subjects.keys_sync(site): subjects.keys_sync(site, _NOBODY),
        subjects.status_batch(site): subjects.status_batch(site, _NOBODY),
    }
    return [Right(subject, probe, is_publish=False) for subject, probe in requests.items()]


async def denied_rights(broker: Broker, rights: Sequence[Right]) -> list[Right]:
    """Return those of the rights that the broker denies. Errors are those of `Broker.probe`."""
    permissions = await _permissions(broker)
    if permissions is None:
        denied = await broker.probe({(right.probe, right.is_publish): right.frame for right in rights})
        return [right for right in rights if (right.probe, right.is_publish) in denied]
    return [right for right in rights if is_denied(right, permissions)]


async def require_rights(broker: Broker, rights: Sequence[Right]) -> None:
    """Raise a `TransientError` that names the denied rights if an essential one is among them; else log them."""
    denied = await denied_rights(broker, [right for right in rights if not right.is_heard])
    names = [str(right) for right in denied]
    if any(right.is_essential for right in denied):
        raise TransientError(f"the permissions of this NATS user deny it to {', '.join(names)}")
    if broker.last_denials.pop("subscription", None) is not None:
        await broker.client.force_reconnect()  # the client's inbox was denied: it has to subscribe again
    if names:
        log.error("the permissions of this NATS user deny a part of the work", denied=names)


async def denies_keys(broker: Broker) -> bool:
    """Tell whether the broker denies keys to an account that no permission names, and so to any account."""
    broker.denies_all_keys = bool(await denied_rights(broker, [_KEYS]))
    return broker.denies_all_keys


async def _permissions(broker: Broker) -> Mapping[str, Any] | None:
    """Return the permissions of this user as the broker describes them; None if the user may not ask for them."""
    if not broker.may_ask_for_permissions:
        return None
    try:
        answer = await broker.client.request(USER_INFO, timeout=_ANSWER_S)
        permissions = orjson.loads(answer.data)["data"].get("permissions")
    except (nats.errors.Error, OSError, ValueError, LookupError, AttributeError):
        broker.may_ask_for_permissions = False
        return None
    return permissions or {}


def is_denied(right: Right, permissions: Mapping[str, Any]) -> bool:
    """Tell whether permissions, as the broker describes them, deny a right."""
    rules = permissions.get("publish" if right.is_publish else "subscribe") or {}
    allow, deny = rules.get("allow"), rules.get("deny") or []
    is_allowed = allow is None or any(_matches(pattern, right.probe) for pattern in allow)
    return not is_allowed or any(_matches(pattern, right.probe) for pattern in deny)


def _matches(pattern: str, subject: str) -> bool:
    """Tell whether a pattern matches a subject; a queue group may follow the pattern."""
    wanted, tokens = pattern.split(" ", maxsplit=1)[0].split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        tokens, is_long_enough = tokens[: len(wanted)], len(tokens) > len(wanted)
    else:
        is_long_enough = len(tokens) == len(wanted)
    return is_long_enough and all(part in {"*", token} for part, token in zip(wanted, tokens, strict=False))
