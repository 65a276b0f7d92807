"""The demo's story, who must and who must not be able to read each message of it, and the verdict.

Nothing here talks to a server: what the story demands follows from its steps alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Create:
    """Somebody creates the room with others."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """Somebody adds others."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """Somebody removes others."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Somebody writes to the room."""

    by: str
    text: str


@dataclass(frozen=True, slots=True)
class GoOffline:
    """Somebody is not connected from now on, but stays a member."""

    by: str


@dataclass(frozen=True, slots=True)
class ComeBack:
    """Somebody is connected again and catches up."""

    by: str


Step = Create | Add | Remove | Say | GoOffline | ComeBack

STORY: Final[tuple[Step, ...]] = (
    Create("alice", ("bob", "carol")),
    Say("bob", "Lunch at twelve?"),
    Add("alice", ("dave",)),
    Say("dave", "Hello, I am new here."),
    GoOffline("carol"),
    Remove("alice", ("bob",)),
    Say("dave", "Bob has left us. Lunch at one."),
    ComeBack("carol"),
    Say("carol", "I have read it all: lunch at one."),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """A message, its number from 1 on, who is a member when it is sent, and who no longer is.

    `offline`: members who read it only when they come back.
    """

    number: int
    text: str
    members: frozenset[str]
    removed: frozenset[str]
    offline: frozenset[str] = frozenset()

    def at_once(self) -> "Expected":
        """Return what is expected when the message comes: of those who are there."""
        return replace(self, members=self.members - self.offline)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one account's attempt to read one message; `text` is None where it could not."""

    has_key: bool
    text: str | None


def people(story: Iterable[Step]) -> list[str]:
    """Return everybody in the story, in the order in which they appear."""
    names = (name for step in story for name in (step.by, *getattr(step, "users", ())))
    return list(dict.fromkeys(names))


def expectations(story: Iterable[Step]) -> list[Expected]:
    """Return what the story demands of each of its messages."""
    members, removed, offline = frozenset[str](), frozenset[str](), frozenset[str]()
    expected: list[Expected] = []
    for step in story:
        match step:
            case Create(by, users):
                members |= {by, *users}
            case Add(_, users):
                members |= set(users)
                removed -= set(users)
            case Remove(_, users):
                members -= set(users)
                removed |= set(users)
            case GoOffline(by):
                offline |= {by}
            case ComeBack(by):
                offline -= {by}
            case Say(_, text):
                expected.append(Expected(len(expected) + 1, text, members, removed, offline & members))
    return expected


def judge(expected: Sequence[Expected], readings: Mapping[str, Sequence[Reading]]) -> list[str]:
    """Return everything that is not as the story demands, in words; `readings` are by account, a message each.

    A member reads the text as it was sent; somebody who was removed has not even the key.
    """
    complaints: list[str] = []
    for message in expected:
        for account in sorted(message.members | message.removed):
            of_account = readings.get(account, ())
            if len(of_account) < message.number:
                complaints.append(f"message {message.number}: expected that it reaches {account}; it did not")
            else:
                complaints += _complaints(message, account, of_account[message.number - 1])
    return complaints


def _complaints(message: Expected, account: str, reading: Reading) -> list[str]:
    about = f"message {message.number}: expected that {account}"
    seen = "read another text" if reading.text is not None else "could not read it"
    if account in message.members:
        cause = "" if reading.has_key else ", having no key for it"
        return [] if reading.text == message.text else [f"{about}, a member, reads it; {account} {seen}{cause}"]
    if reading.text is not None:
        return [f"{about}, who was removed, cannot read it; {account} read it"]
    return [f"{about}, who was removed, has no key for it; {account} has one"] if reading.has_key else []
