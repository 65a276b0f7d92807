"""Tokens: strings that may be one token of a NATS subject; and which accounts are bots.

Every account, room id, request id and reply address is checked here before it becomes part of a subject. A space,
a dot or a line break would name another subject or forge a protocol line. (docs/contract.md, preamble;
docs/design.md, invariant 10)
"""

import re
from collections.abc import Iterable
from typing import Final, TypeGuard

MAX_TOKEN_BYTES: Final = 255
"""The longest token, in UTF-8 bytes. The broker closes a connection whose control line exceeds 4 KiB."""

MAX_REPLY_BYTES: Final = 1024
"""The longest reply address, in UTF-8 bytes, for the same reason."""

_BOT_SUFFIX: Final = ".bot"
_PLATFORM_PREFIX: Final = "p_"

# \s covers Unicode's white space. Surrogates cannot be encoded, and so cannot be sent.
_FORBIDDEN: Final = re.compile("[\\s.*>\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REQUEST_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_token(value: object) -> TypeGuard[str]:
    """Tell whether `value` may be one token of a subject."""
    if not isinstance(value, str) or not value or _FORBIDDEN.search(value) is not None:
        return False
    return len(value.encode()) <= MAX_TOKEN_BYTES


def is_reply(address: str, prefixes: Iterable[str]) -> bool:
    """Tell whether a reply may be sent to `address`: it is below one of the prefixes and consists of tokens.

    The broker lets a requester name any reply address, even one on which only the worker may publish.
    """
    if not address.startswith(tuple(prefixes)) or not all(map(is_token, address.split("."))):
        return False
    return len(address.encode()) <= MAX_REPLY_BYTES


def is_account(value: object) -> TypeGuard[str]:
    """Tell whether `value` is an account: a token, or a bot's `{token}.bot`."""
    return isinstance(value, str) and is_token(value.removesuffix(_BOT_SUFFIX))


BOT_PATTERN: Final = r"^p_|\.bot$"
"""What `is_bot` tells, as a regular expression."""


def is_bot(account: str) -> bool:
    """Tell whether the account belongs to a bot: it ends in `.bot` or begins with `p_`."""
    return account.endswith(_BOT_SUFFIX) or account.startswith(_PLATFORM_PREFIX)


def is_dotted_bot(account: object) -> bool:
    """Tell whether the account belongs to a bot that can be a member but has no subject: `{token}.bot`."""
    return isinstance(account, str) and account.endswith(_BOT_SUFFIX) and is_account(account)


def is_request_id(value: object) -> TypeGuard[str]:
    """Tell whether `value` is a hyphenated UUID, the only valid form of `X-Request-ID`."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None
