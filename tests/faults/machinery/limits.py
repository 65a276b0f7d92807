"""Small limits: with them a room of five is large, and an event of four memberships is applied in slices."""

SMALL_LIMITS: dict[str, float] = {
    "large_room_members": 4,
    "page_accounts": 3,
    "window_accounts": 2,
    "batch_accounts": 3,
}
"""Changes to `Limits`."""
