r"""Frames: a page of recipients as the protocol's own bytes, built by one join.

Within one fan-out only the account varies from one `PUB` line to the next, so everything between two
accounts is one separator. `split` lets through only what may stand in a subject: an account such as
`a\r\nPUB …` would forge a line. (design.md, "Fast by shape" and invariant 10)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roomkeys.subjects import KEY_PREFIX, KEY_SUFFIX
from roomkeys.tokens import MAX_TOKEN_BYTES, is_dotted_bot, is_token

# Never in a token, so what is left of a joined page tells whether any account held a forbidden byte.
_BETWEEN: Final = "\n"
_FORBIDDEN_ASCII: Final = bytes(byte for byte in range(128) if not is_token(chr(byte)))


@dataclass(frozen=True, slots=True)
class Recipients:
    """A page of accounts, sorted out: who can be published to, and how many could not.

    `refused` counts accounts that are no tokens; bots with a dotted account are neither.
    """

    accounts: Sequence[str]
    refused: int = 0


def split(page: Sequence[object]) -> Recipients:
    """Return who of a page of accounts from the database can be published to."""
    if all(type(account) is str for account in page):
        accounts: list[str] = page  # type: ignore[assignment]  # just checked, at C speed
        if _all_plain(accounts):
            return Recipients(accounts)
    tokens = [account for account in page if is_token(account)]
    bots = sum(1 for account in page if is_dotted_bot(account))
    return Recipients(tokens, refused=len(page) - len(tokens) - bots)


def _all_plain(accounts: list[str]) -> bool:
    """Tell in a few passes over the page, not one look per account, that every account is a plain token."""
    joined = _BETWEEN.join(accounts)
    if not joined.isascii() or max(map(len, accounts), default=0) > MAX_TOKEN_BYTES:
        return False
    forbidden = len(joined) - len(joined.encode().translate(None, _FORBIDDEN_ASCII))
    return forbidden == max(len(accounts) - 1, 0) and all(accounts)


def frame(accounts: Sequence[str], payload: bytes) -> bytes:
    """Return the bytes that publish one payload on every account's key subject.

    The accounts must have been let through by `split`. Nobody to publish to: no bytes.
    """
    if not accounts:
        return b""
    head = f"PUB {KEY_PREFIX}".encode()
    tail = f"{KEY_SUFFIX} {len(payload)}\r\n".encode() + payload + b"\r\n"
    lines = list(map(str.encode, accounts))
    # What comes first and last goes into the join as well: added to the page, it would be copied once more each.
    lines[0] = head + lines[0]
    lines[-1] += tail
    return (tail + head).join(lines)
