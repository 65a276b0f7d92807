"""A rate limit per account in bounded memory: the generic cell rate algorithm (GCRA)."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

MAX_ACCOUNTS: Final = 100_000
"""Entries of the table. When it is full, the account whose last request is oldest gets its full budget back."""


@dataclass(slots=True)
class RateLimit:
    """Allows each account `rate` requests per second continuously, and `burst` at once after a pause.

    The table has one number per account, its theoretical arrival time: when its next request would come if it
    made exactly `rate` requests per second. An account may be up to `burst / rate` seconds ahead of that. An
    account whose time has passed has its full budget and is dropped; this is so after at most `burst / rate`
    idle seconds.
    """

    rate: float
    burst: int
    max_accounts: int = MAX_ACCOUNTS
    _theoretical_arrival: OrderedDict[bytes, float] = field(default_factory=OrderedDict, init=False)
    """Seconds, by account; the account with the oldest request comes first."""

    def __len__(self) -> int:
        return len(self._theoretical_arrival)

    def allows(self, account: bytes, now: float) -> bool:
        """Tell whether the account may make a request now, and if so, charge it.

        `now` is in seconds, from a clock that does not jump.
        """
        self._drop_idle(now)
        arrival = max(self._theoretical_arrival.get(account, now), now) + 1 / self.rate
        # Half a request of tolerance for rounding: 100 times 1/20 in floating point is a little more than 5.
        if arrival - now > (self.burst + 0.5) / self.rate:
            return False
        self._theoretical_arrival[account] = arrival
        self._theoretical_arrival.move_to_end(account)
        return True

    def _drop_idle(self, now: float) -> None:
        while self._theoretical_arrival:
            account, arrival = next(iter(self._theoretical_arrival.items()))
            if arrival > now and len(self._theoretical_arrival) < self.max_accounts:
                return
            del self._theoretical_arrival[account]


class Verdict(Enum):
    """What becomes of a request: it is accepted, or refused, or dropped without a reply."""

    ACCEPT = auto()
    REFUSE = auto()
    DROP = auto()


@dataclass(slots=True)
class AccountLimit:
    """Judges requests by account: those beyond the rate limit are refused, and most of them dropped.

    A refusal costs more than a request, so a flood must not be answered request by request.
    """

    requests: RateLimit
    refusals: RateLimit

    def judge(self, account: bytes, now: float) -> Verdict:
        """Return what becomes of a request at `now`, in seconds, and charge the account for it."""
        if self.requests.allows(account, now):
            return Verdict.ACCEPT
        return Verdict.REFUSE if self.refusals.allows(account, now) else Verdict.DROP
