"""Lists of accounts as failures show them."""

from collections.abc import Iterable

_SHOWN = 5


def shown(accounts: Iterable[str]) -> str:
    """Return the first few accounts, and how many more there are."""
    everyone = sorted(accounts)
    more = f" and {len(everyone) - _SHOWN} more" if len(everyone) > _SHOWN else ""
    return ", ".join(everyone[:_SHOWN]) + more
