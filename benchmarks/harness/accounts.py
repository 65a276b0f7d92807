"""The accounts of every room: m1000000, m1000001, …; the first one is the requester of every event."""

from benchmarks.harness.sizes import FIRST


def account(number: int) -> str:
    """Return the account of the member with this number."""
    return f"m{FIRST + number}"


def accounts(count: int) -> list[str]:
    """Return the accounts of the first members of a room."""
    return [account(number) for number in range(count)]


REQUESTER = account(0)
