"""The accounts of every room: m1000000, m1000001, …; the first one asks for everything."""

from benchmarks.harness.sizes import FIRST


def account(number: int) -> str:
    """Name a room's member by its place."""
    return f"m{FIRST + number}"


def accounts(count: int) -> list[str]:
    """Name the first members of a room."""
    return [account(number) for number in range(count)]


REQUESTER = account(0)
