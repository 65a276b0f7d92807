"""The story of the demo, what it demands of each message, and a comparison with what the subscribers could read.

Nothing here talks to a server: the demands follow from the steps of the story alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Create:
    """`by` creates the room with `users`."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """`by` adds `users`."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """`by` removes `users`."""

    by: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """`by` sends a message to the room."""

    by: str
    text: str


@dataclass(frozen=True, slots=True)
class GoOffline:
    """`by` disconnects, but stays a member."""

    by: str


@dataclass(frozen=True, slots=True)
class ComeBack:
    """`by` connects again and catches up."""

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
    Say("carol", "I have read everything: lunch at one."),
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

    def on_arrival(self) -> "Expected":
        """Return what is expected at the time when the message comes: nothing of members who are offline."""
        return replace(self, members=self.members - self.offline)


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome of one account's attempt to read one message; `text` is None if it failed."""

    has_key: bool
    text: str | None


def accounts_in(story: Iterable[Step]) -> list[str]:
    """Return every account in the story, in order of appearance."""
    accounts = (account for step in story for account in (step.by, *getattr(step, "users", ())))
    return list(dict.fromkeys(accounts))


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
        should = f"the member {account} should read it"
        but = "could not" if reading.has_key else "has no key for it"
        if reading.text is not None:
            but = "read a different text"
    elif reading.text is not None:
        should, but = f"the removed {account} should not read it", "did"
    elif reading.has_key:
        should, but = f"the removed {account} should have no key for it", "has one"
    else:
        return []
    return [f"message {message.number}: {should}, but {but}"]
