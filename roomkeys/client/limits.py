"""The times and sizes that limit a client."""

from dataclasses import dataclass
from random import uniform
from typing import Final

from roomkeys.backoff import Backoff

DEADLINE_SECONDS: Final = 10.0
"""How long `open`, `seal` and `key` wait for a key, unless the caller passes another deadline."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The times and sizes of one client. The times to retry and to check are averages: see `client_jitter`."""

    request_seconds: float = 5.0
    """How long to wait for a reply: a little longer than the key service waits for its database."""

    window_seconds: float = 0.010
    """How long to collect missing keys before they are requested as one batch."""

    first_retry_seconds: float = 0.4
    """The pause after the first failed request. It doubles with each further failure."""

    longest_retry_seconds: float = 8.0
    """The longest pause between two failed requests."""

    reconnect_check_seconds: float = 1.0
    """The time between two checks whether the connection was lost and restored."""

    unread_changes: int = 10_000
    """How many keys an iterator over changes queues; beyond this number the oldest are dropped."""

    def backoff(self) -> Backoff:
        """Return the backoff of one client: its factor is fixed, so that its requests share retries as well."""
        jitter = client_jitter()
        return Backoff(self.first_retry_seconds, self.longest_retry_seconds, spread=(jitter, jitter))


def client_jitter() -> float:
    """Return a factor for one client's times, so that clients that failed together do not retry together."""
    return uniform(0.5, 1.5)  # noqa: S311 - no secret
