"""Denials: what the broker said it would not let this connection publish, or subscribe to.

The broker answers a denied publish with an error that names the subject, and with nothing else. Through a client
whose pings wait their turn, that error arrives before the answer to a later ping. So a barrier knows which of the
keys that it was to confirm were denied. (docs/pitfalls.md, item 7)
"""

import re
from dataclasses import dataclass
from typing import Final

from roomkeys.subjects import KEY_PREFIX, KEY_SUFFIX

_COMPLAINT: Final = re.compile(
    r'permissions violation for (?P<action>publish|subscription) to "(?P<subject>(?:[^"\\]|\\.)*)"', re.IGNORECASE
)
_KINDS: Final = (
    ("key", re.compile(r"chat\.user\..*\.event\.room\.key")),
    ("notice", re.compile(r"chat\.user\..*\.event\.subscription\.update|chat\.room\..*\.event\.member")),
    ("result", re.compile(r"chat\.user\..*\.response\.[^.]*")),
    ("dead_letter", re.compile(r"chat\.room\.deadletter\..*")),
    ("jetstream", re.compile(r"\$JS\..*")),
)
_NAMED: Final = 20

USER_INFO: Final = "$SYS.REQ.USER.INFO"
"""Where the broker describes the user of this connection. A restricted user may not ask, and does not have to."""


@dataclass(frozen=True, slots=True)
class Denial:
    """One denial: what the worker may not do with which subject, and the broker's own words."""

    subject: str
    text: str
    is_publish: bool = True

    @property
    def kind(self) -> str:
        """Name what was denied, for metrics: key, notice, result, dead_letter, jetstream, subscription or other."""
        if not self.is_publish:
            return "subscription"
        return next((kind for kind, subjects in _KINDS if subjects.fullmatch(self.subject)), "other")

    @property
    def use(self) -> tuple[str, bool]:
        """Return the subject, and True if it was published to."""
        return self.subject, self.is_publish

    @property
    def account(self) -> str:
        """Return the account to which a key was denied."""
        return self.subject[len(KEY_PREFIX) : -len(KEY_SUFFIX)]


def denial_in(complaint: str) -> Denial | None:
    """Return the denial that an error of the broker reports; None for any other error."""
    found = _COMPLAINT.search(complaint)
    if found is None:
        return None
    # The broker quotes the subject as Go does, whose escapes are those of Python.
    subject = found["subject"].encode("ascii", "backslashreplace").decode("unicode_escape")
    return Denial(subject, complaint.strip("'"), found["action"].lower() == "publish")


class DeniedKeys:
    """The accounts to which a key was denied while a barrier is open, each with when that was last.

    All barriers of a connection share it. So its size is that of the accounts that were denied since the oldest
    barrier that is still open began, however many there are.
    """

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str, int] = {}
        self._open: list[int] = []

    def __len__(self) -> int:
        return len(self._last)

    def add(self, account: str) -> None:
        """Note a denial."""
        self._count += 1
        if self._open:
            self._last.pop(account, None)  # keeps the order of the counts
            self._last[account] = self._count

    def open(self) -> int:
        """Return what `since` and `close` need for a barrier that begins now."""
        self._open.append(self._count)
        return self._count

    def since(self, opened: int) -> frozenset[str]:
        """Return the accounts that were denied a key since then."""
        if self._count == opened:
            return frozenset()
        return frozenset(account for account, count in self._last.items() if count > opened)

    def close(self, opened: int) -> None:
        """Forget what no open barrier asks for any more."""
        self._open.remove(opened)
        oldest = min(self._open, default=self._count)
        while self._last and next(iter(self._last.values())) <= oldest:
            del self._last[next(iter(self._last))]


@dataclass(slots=True)
class Confirmation:
    """What a barrier has learned at its end: the accounts that the broker denied a key since it began."""

    denied: frozenset[str] = frozenset()


def named(names: frozenset[str]) -> list[str]:
    """Return as many of these names as a log line may have, in order."""
    return sorted(names)[:_NAMED]
