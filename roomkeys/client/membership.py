"""What a client knows about its account's membership: which key of a room may be the one in use, and which may not.

A notice can come before or after the keys that were sent before it, and notices can come twice or, during a takeover,
out of order. So a notice only makes the key in use unknown. What makes it known again was certainly sent later:

- a key that was sent at or after the time of the notice that added the account, or
- a reply to a request that was sent after the last notice came.

A removal that is newer than every other notice of the room ends the membership for the client: `seal` fails at once.
A notice that is not newer contradicts what came before, so that only the key service knows. (docs/contract.md,
sections 2 and 3)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

Counts = Callable[[str], bool]
"""Tells whether something that arrived may show which key of a room is in use."""

_NEVER: Final = inf


@dataclass(frozen=True, slots=True)
class MembershipNotice:
    """A `subscription.update`: the account was added to a room or removed from it, at `at_ms` (epoch milliseconds)."""

    room_id: str
    at_ms: int
    is_member: bool


@dataclass(slots=True)
class _Heard:
    """The newest notice of a room. `number` counts notices; `since_ms`: keys sent before do not count."""

    newest: MembershipNotice
    number: int
    since_ms: float
    has_left: bool


class Memberships:
    """The notices that a client has heard, by room."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Heard] = {}
        self._notices = 0

    def has_left(self, room_id: str) -> bool:
        """Tell whether the newest notice of a room says that the account was removed, and nothing contradicts it."""
        heard = self._rooms.get(room_id)
        return heard is not None and heard.has_left

    def hear(self, notice: MembershipNotice) -> bool:
        """Take a notice; return True if the key in use is unknown from now on, False if it has come before."""
        heard = self._rooms.get(notice.room_id)
        if heard is not None and heard.newest == notice:
            return False
        self._notices += 1
        if heard is None or notice.at_ms > heard.newest.at_ms:
            since_ms = notice.at_ms if notice.is_member else _NEVER
            heard = _Heard(notice, self._notices, since_ms, has_left=not notice.is_member)
        else:
            heard = _Heard(heard.newest, self._notices, _NEVER, has_left=False)
        self._rooms[notice.room_id] = heard
        return True

    def sent_at(self, at_ms: int) -> Counts:
        """Return whether a key counts that the worker sent at this time (epoch milliseconds)."""
        return lambda room_id: room_id not in self._rooms or at_ms >= self._rooms[room_id].since_ms

    def asked_now(self) -> Counts:
        """Return whether a reply counts to a request that is sent now: not if a notice comes before the reply."""
        before = self._notices
        return lambda room_id: room_id not in self._rooms or self._rooms[room_id].number <= before
