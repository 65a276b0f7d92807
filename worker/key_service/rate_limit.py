"""A rate limit for each account, in a bounded memory."""

from collections import OrderedDict
from typing import Final

RATE: Final = 20.0
"""Requests a second that an account may go on with."""

BURST: Final = 100
"""Requests that it may make at once."""

MAX_ACCOUNTS: Final = 100_000
"""Beyond so many that have asked within seconds, those that have not for longest are forgiven."""


class RateLimit:
    """Remembers for each account until when what it has asked for is paid off, at `RATE` requests a second.

    Who has paid everything off is forgotten: that is all who have not asked for `BURST / RATE` seconds.
    """

    def __init__(self, rate: float = RATE, burst: int = BURST, most: int = MAX_ACCOUNTS) -> None:
        self._price = 1 / rate
        self._credit = burst / rate
        self._most = most
        self._paid_off: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paid_off)

    def allows(self, account: str, now: float) -> bool:
        """Tell whether the account may ask now (seconds of a clock that does not jump), and charge it if so."""
        self._forget(now)
        paid_off = max(self._paid_off.get(account, now), now) + self._price
        # A hundred times a twentieth is a little more than five.
        if paid_off - now > self._credit + self._price / 2:
            return False
        self._paid_off[account] = paid_off
        self._paid_off.move_to_end(account)
        return True

    def _forget(self, now: float) -> None:
        while self._paid_off:
            account, paid_off = next(iter(self._paid_off.items()))
            if paid_off > now and len(self._paid_off) < self._most:
                return
            del self._paid_off[account]
