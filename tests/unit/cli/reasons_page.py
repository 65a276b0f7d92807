"""The reference page of codes and reasons: read from the code, with what each means and what to do about it.

Every `ErrorInfo` of the code is on the page: a test fails when the code can produce another one.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from roomkeys import errors

ROOT: Final = Path(__file__).parents[3]
_EVENTS: Final = "roomkeys/errors.py"
_REQUESTS: Final = "roomkeys/messages/key_requests.py"
_MODULES: Final = (_EVENTS, _REQUESTS)


class Reason(NamedTuple):
    """A code and a reason that the code can produce, and the file that does."""

    file: str
    code: str
    reason: str


EVENTS: Final = {
    "invalid_event": (
        "The body is not a JSON object, or a field is missing or has the wrong type. The text names the field.",
        "Correct the producer. A repetition gets the same result.",
    ),
    "invalid_account": (
        (
            "An account is not a token: it is empty, longer than 255 bytes, or has `.`, `*`, `>`, white space or a "
            "control character. Only a bot's account may end in `.bot`."
        ),
        "Correct the producer.",
    ),
    "invalid_room": ("The `roomId` is not a token.", "Correct the producer."),
    "room_not_found": (
        "The site has no room with this id.",
        "Create the room first. Events of one room take effect in the order of the stream.",
    ),
    "room_exists": (
        "A create names a room that exists, with another type or another site.",
        "Choose another id. A create of a room with the same type and site succeeds: it adds the missing members.",
    ),
    "user_not_found": (
        (
            "The account that the text names, the requester or another one, is in no document of `users`. (For a "
            "remove and a rotation, being a member is enough.) Nothing was written."
        ),
        (
            "Publish the event again once the user exists; the worker does not wait for it. The fields are in "
            "[data-model.md](data-model.md#users)."
        ),
    ),
    "bot_not_available": (
        "A dm with a bot that is in no document of `users`.",
        "Publish the event again once the bot's user exists.",
    ),
    "self_dm": ("A dm names only its requester.", "Name the other account."),
    "non_channel_operation": (
        (
            "An add, a remove or a rotation of a dm or of a room with a bot. Their members never change, and they have "
            "no key."
        ),
        "Do not publish it: `roomType` in `subscription.update`, and `rooms.type`, say what a room is.",
    ),
    "internal": (
        (
            "The event alone cannot be written, while its rejection can: a fault of the worker, or a document that "
            "MongoDB refuses to change, for example one that a validator rejects or that has grown too large."
        ),
        "The worker's log has the error of MongoDB. Remove its cause, then run `room-worker deadletters replay`.",
    ),
}
"""Meaning and remedy of each reason in results and dead letters."""

REQUESTS: Final = {
    "not_room_member": (
        (
            "The account of the subject is not a member of the room, or the room does not exist; the reply does not "
            "say which."
        ),
        "Do not repeat the request until a `subscription.update` says that the account was added.",
    ),
    "key_not_available": (
        (
            "The room has no such key for members: the version has expired, is not in use yet, or never existed; or, "
            "in a request without a version, the room has no key in use. A dm never has one."
        ),
        (
            "If a newer version is in use, the old one is gone. Otherwise wait for the key that is sent on "
            "`chat.user.{account}.event.room.key`, and repeat the request with growing pauses."
        ),
    ),
    "invalid_request": (
        "The body is not JSON or has the wrong shape, or a batch has no items or more than 100.",
        "Correct the client.",
    ),
    "invalid_account": ("The account in the subject is not a token.", "Correct the client."),
    "invalid_cursor": ("The `cursor` of `keys.sync` was not issued to this account.", "Begin again without a cursor."),
    "rate_limited": (
        (
            "The account sends more than 20 requests per second after a burst of 100. Beyond a number of such replies, "
            "further requests get no reply."
        ),
        "Pause, then repeat. Ask for many keys in one `keys.batch`, and for missed ones with `keys.sync`.",
    ),
    "database_unavailable": ("MongoDB did not answer within 4 s.", "Repeat with growing pauses."),
    "overloaded": (
        "Too many requests wait at this replica for their replies.",
        "Repeat with growing pauses; run more replicas of the key service if it lasts.",
    ),
    "internal": (
        "The request could not be answered: a fault of the worker, whose log has a line about it.",
        "Repeat it once; then report it.",
    ),
}
"""Meaning and remedy of each reason in replies of the key service."""

_INTRODUCTION: Final = """
Programs use `code` and `reason`. The text in `error` is for people and may change. New reasons may come with a minor
version, so treat an unknown reason like its `code`.

| code | what it says | repeat? |
|---|---|---|
| `bad_request` | the event or the request can never succeed | no |
| `unauthenticated` | never produced: NATS authenticates | |
| `forbidden` | the account may not have this | not until something changes |
| `not_found` | what it names does not exist | once it exists |
| `conflict` | it contradicts what exists | no |
| `too_many_requests` | the account exceeds its rate limit | after a pause |
| `unavailable` | the service cannot answer now | with growing pauses |
| `internal` | a fault of the worker | once |
"""

_BEFORE_EVENTS: Final = """
The result of an event (`chat.user.{requester}.response.{requestId}`) has these as `code` and `reason`, and its dead
letter has them in the headers `Room-Worker-Code` and `Room-Worker-Reason`. Each of these results comes with a dead
letter. An event that has no request id or no usable requester has only the dead letter.

A result with the status `ok` has neither. It says that the worker has done what there was to do, which may be nothing:
see [producer.md](../producer.md#what-ok-says).
"""

_BEFORE_REQUESTS: Final = """
An error reply has these, and so has each failed item of `keys.batch`. No reply at all means that no key service runs
for the site, that the reply address is not allowed (`KEY_SERVICE_REPLIES`), that the NATS user may not publish the
request, or that the account is far beyond its rate limit. The errors of the Python library are in
[client.md](../client.md#errors).
"""


def reasons() -> Iterator[Reason]:
    """Yield what every call of `ErrorInfo` in the code gives as code and reason."""
    for folder in ("roomkeys", "store", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "ErrorInfo":
                    code, reason = node.args[0], node.args[1]
                    assert isinstance(reason, ast.Constant), f"{path}:{node.lineno}: the reason must be a literal"
                    name = ast.unparse(code).split(".")[-1]
                    yield Reason(str(path.relative_to(ROOT)), getattr(errors, name), str(reason.value))


def reasons_page() -> str:
    """Return the page."""
    found = list(reasons())
    elsewhere = [reason for reason in found if reason.file not in _MODULES]
    assert not elsewhere, f"results and replies get their reasons from {_MODULES} only: {elsewhere}"
    return (
        "\n\n".join(
            (
                "# Codes and reasons",
                "Generated from `roomkeys` by `make reference`. Do not edit: a test compares it with the code.",
                _INTRODUCTION.strip(),
                "## Of events",
                _BEFORE_EVENTS.strip(),
                _table([item for item in found if item.file == _EVENTS], EVENTS),
                "## Of requests",
                _BEFORE_REQUESTS.strip(),
                _table([item for item in found if item.file == _REQUESTS], REQUESTS),
            )
        )
        + "\n"
    )


def _table(found: list[Reason], texts: dict[str, tuple[str, str]]) -> str:
    known = {item.reason: item.code for item in found}
    missing, unused = known.keys() - texts.keys(), texts.keys() - known.keys()
    assert not missing, f"say in {__name__} what these reasons mean: {missing}"
    assert not unused, f"the code does not produce these reasons: {unused}"
    rows = [f"| `{known[reason]}` | `{reason}` | {meaning} | {remedy} |" for reason, (meaning, remedy) in texts.items()]
    return "\n".join(("| code | reason | meaning | what to do |", "|---|---|---|---|", *rows))


def codes_of_the_contract() -> list[str]:
    """Return the codes that docs/contract.md, section 3, lists."""
    text = (ROOT / "docs" / "contract.md").read_text()
    listed = re.search(r"`code` is one of `([a-z_,\s]+)`", text)
    assert listed is not None
    return [code.strip() for code in listed.group(1).split(",")]
