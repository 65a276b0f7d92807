r"""Frames: the bytes of the NATS protocol that publish one payload to a page of accounts, or one message.

Within one fan-out only the account differs from one `PUB` line to the next, so everything between two accounts is
one separator, and one replacement builds the frame. `split` first removes accounts that are not tokens: one such
as `a\r\nPUB …` would forge a protocol line. (docs/design.md, Why it is fast, and invariant 10)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from roomkeys.subjects import KEY_PREFIX, KEY_SUFFIX
from roomkeys.tokens import MAX_TOKEN_BYTES, is_dotted_bot, is_token

# Not allowed in a token: if a joined page has no other forbidden bytes than these, no account has any.
_BETWEEN: Final = "\n"
_FORBIDDEN_ASCII: Final = bytes(byte for byte in range(128) if not is_token(chr(byte)))


@dataclass(frozen=True, slots=True)
class Recipients:
    """The accounts that can be published to, and how many are `refused`: no tokens. Dotted bots are in neither."""

    accounts: Sequence[str]
    refused: int = 0


def split(page: Sequence[object]) -> Recipients:
    """Sort a page of accounts as they come from the database, where other systems write any type."""
    if _all_plain(page):
        return Recipients(page)  # type: ignore[arg-type]  # each one is text
    tokens = [account for account in page if is_token(account)]
    bots = sum(1 for account in page if is_dotted_bot(account))
    return Recipients(tokens, refused=len(page) - len(tokens) - bots)


def _all_plain(page: Sequence[object]) -> bool:
    """Tell whether every account is a token of ASCII characters, in a few passes instead of one per account."""
    try:
        joined = _BETWEEN.join(page)  # type: ignore[arg-type]  # fails for anything but text
    except TypeError:
        return False
    if not joined.isascii() or max(map(len, page), default=0) > MAX_TOKEN_BYTES:  # type: ignore[arg-type]
        return False
    forbidden = len(joined) - len(joined.encode().translate(None, _FORBIDDEN_ASCII))
    return forbidden == max(len(page) - 1, 0) and all(page)


def frame(accounts: Sequence[str], payload: bytes) -> bytes:
    """Return the bytes that publish a payload on every account's key subject. `accounts`, if any, come from `split`."""
    if not accounts:
        return b""
    head = f"PUB {KEY_PREFIX}".encode()
    tail = f"{KEY_SUFFIX} {len(payload)}\r\n".encode() + payload + b"\r\n"
    # Encoding the accounts one by one takes twice as long as everything else here.
    lines = _BETWEEN.join(accounts).encode().replace(_BETWEEN.encode(), tail + head)
    return b"".join((head, lines, tail))


def message(subject: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the bytes that publish one message.

    The caller has checked the tokens of the subject, and the headers: a line end would forge a protocol line.
    """
    if not headers:
        return f"PUB {subject} {len(body)}\r\n".encode() + body + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    return f"HPUB {subject} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n"
