"""The story of the demo, what it demands of each message, and a comparison with what the subscribers could read.

Nothing here talks to a server: the demands follow from the steps of the story alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the story: what the account `by` does, with `users` or, if it says something, with a `text`.

    An account that goes offline stays a member; when it comes back, it catches up.
    """

    by: str
    does: Literal["create", "add", "remove", "say", "go offline", "come back"]
    users: tuple[str, ...] = ()
    text: str = ""


STORY: Final = (
    Step("alice", "create", ("bob", "carol")),
    Step("bob", "say", text="Lunch at twelve?"),
    Step("alice", "add", ("dave",)),
    Step("dave", "say", text="Hello, I am new here."),
    Step("carol", "go offline"),
    Step("alice", "remove", ("bob",)),
    Step("dave", "say", text="Bob has left us. Lunch at one."),
    Step("carol", "come back"),
    Step("carol", "say", text="I have read everything: lunch at one."),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """A message, with its number from 1 on, and who is a member, removed, or offline when it is sent.

    An `offline` member reads the message only after it has come back.
    """

    number: int
    text: str
    members: frozenset[str]
    removed: frozenset[str]
    offline: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome of one account's attempt to read one message; `text` is None if it failed."""

    has_key: bool
    text: str | None


def accounts_in(story: Iterable[Step]) -> list[str]:
    """Return every account in the story, in order of appearance."""
    return list(dict.fromkeys(account for step in story for account in (step.by, *step.users)))


def expectations(story: Iterable[Step]) -> list[Expected]:
    """Return what the story demands of each of its messages."""
    members, removed, offline = frozenset[str](), frozenset[str](), frozenset[str]()
    expected: list[Expected] = []
    for step in story:
        match step.does:
            case "create" | "add":
                members |= {step.by, *step.users}
                removed -= members
            case "remove":
                members -= set(step.users)
                removed |= set(step.users)
            case "go offline":
                offline |= {step.by}
            case "come back":
                offline -= {step.by}
            case "say":
                expected.append(Expected(len(expected) + 1, step.text, members, removed, offline & members))
    return expected


def differences(expected: Sequence[Expected], readings: Mapping[str, Sequence[Reading]]) -> list[str]:
    """Return in words where the readings, by account and in the order of the messages, are not as expected.

    A member must read the text as it was sent. A removed account must not even have the key.
    """
    found: list[str] = []
    for message in expected:
        for account in sorted(message.members | message.removed):
            of_account = readings.get(account, ())
            if len(of_account) < message.number:
                found.append(f"message {message.number}: it should reach {account}, but did not")
            else:
                found += _differences(message, account, of_account[message.number - 1])
    return found


def _differences(message: Expected, account: str, reading: Reading) -> list[str]:
    if account in message.members:
        if reading.text == message.text:
            return []
        could_not = "could not" if reading.has_key else "has no key for it"
        but = could_not if reading.text is None else "read a different text"
        found = f"the member {account} should read it, but {but}"
    elif reading.text is not None:
        found = f"the removed {account} should not read it, but did"
    elif reading.has_key:
        found = f"the removed {account} should have no key for it, but has one"
    else:
        return []
    return [f"message {message.number}: {found}"]
