"""Small limits: with them a room of five is large, and an event of four memberships is applied in slices."""

from worker.limits import Limits

SMALL_LIMITS: dict[str, float] = {
    "large_room_members": 4,
    "page_accounts": 3,
    "window_accounts": 2,
    "batch_accounts": 3,
}
"""Changes to `Limits`, as a child process takes them from `LIMITS`."""


def small_limits() -> Limits:
    """Return the limits with small numbers."""
    return Limits(**SMALL_LIMITS)  # type: ignore[arg-type]  # whole numbers are whole
