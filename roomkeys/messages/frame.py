r"""Frames: a page of recipients as the protocol's own bytes, built by one replacement; and one message.

Within one fan-out only the account varies from one `PUB` line to the next, so everything between two
accounts is one separator. `split` lets through only what may stand in a subject: an account such as
`a\r\nPUB …` would forge a line. (design.md, "Fast by shape" and invariant 10)
"""

from collections.abc import Mapping, Sequence
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
    if _all_plain(page):
        return Recipients(page)  # type: ignore[arg-type]  # each one is text
    tokens = [account for account in page if is_token(account)]
    bots = sum(1 for account in page if is_dotted_bot(account))
    return Recipients(tokens, refused=len(page) - len(tokens) - bots)


def _all_plain(page: Sequence[object]) -> bool:
    """Tell in a few passes over the page, not one look per account, that every account is a plain token."""
    try:
        joined = _BETWEEN.join(page)  # type: ignore[arg-type]  # what is no text ends here
    except TypeError:
        return False
    if not joined.isascii() or max(map(len, page), default=0) > MAX_TOKEN_BYTES:  # type: ignore[arg-type]
        return False
    forbidden = len(joined) - len(joined.encode().translate(None, _FORBIDDEN_ASCII))
    return forbidden == max(len(page) - 1, 0) and all(page)


def frame(accounts: Sequence[str], payload: bytes) -> bytes:
    """Return the bytes that publish one payload on every account's key subject.

    The accounts must have been let through by `split`. Nobody to publish to: no bytes.
    """
    if not accounts:
        return b""
    head = f"PUB {KEY_PREFIX}".encode()
    tail = f"{KEY_SUFFIX} {len(payload)}\r\n".encode() + payload + b"\r\n"
    # The accounts are encoded together: one by one takes twice as long as everything else here.
    lines = _BETWEEN.join(accounts).encode().replace(_BETWEEN.encode(), tail + head)
    return b"".join((head, lines, tail))


def message(subject: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the bytes that publish one message.

    What the subject is made of must have been checked, and so must the headers: a line end would forge a line.
    """
    if not headers:
        return f"PUB {subject} {len(body)}\r\n".encode() + body + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    return f"HPUB {subject} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n"
