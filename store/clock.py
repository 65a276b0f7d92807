"""The clock of the database. It decides when a replaced key expires, so the clocks of replicas need not agree.

The driver's monitors ask every server for its state, at least every 10 s, and each reply has the server's time. So
the clock costs no command. A reply that arrives late shows a time that has passed: the latest of the last few times
counts. Between two replies the time goes on with the monotonic clock of this machine.
"""

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from bson.datetime_ms import DatetimeMS
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

_REPLIES: Final = 3
"""How many replies the time is taken from. A clock that is set back is believed after as many."""


class ServerClock(ServerHeartbeatListener):
    """The clock of the server that can be written to. Until its first reply, the clock of this machine."""

    def __init__(self) -> None:
        self._server: Any = None
        self._ahead_ms: deque[int] = deque(maxlen=_REPLIES)  # of the monotonic clock

    def now_ms(self) -> int:
        """Return the time in epoch milliseconds. Any thread may ask."""
        ahead_ms = max(tuple(self._ahead_ms), default=None)
        return time.time_ns() // 1_000_000 if ahead_ms is None else _monotonic_ms() + ahead_ms

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Do nothing."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """Note the time of the server, if it can be written to."""
        local_time = event.reply.document.get("localTime")
        if not event.reply.is_writable or not isinstance(local_time, datetime):
            return
        ahead_ms = int(DatetimeMS(local_time.replace(tzinfo=local_time.tzinfo or UTC))) - _monotonic_ms()
        if event.connection_id != self._server:  # another primary may have another time
            self._server, self._ahead_ms = event.connection_id, deque([ahead_ms], maxlen=_REPLIES)
        else:
            self._ahead_ms.append(ahead_ms)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """Do nothing: the time goes on."""


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
