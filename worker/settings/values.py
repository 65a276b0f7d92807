"""What the values of settings must be: a type for each kind of value, with the words of its error message.

A validator raises an empty `ValueError`: the message comes from `MustBe`, and never quotes the value, which may be
a secret.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, FilePath, SecretStr
from pydantic_settings import NoDecode
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from roomkeys.tokens import is_token

_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST: Final = 3_650 * _MILLISECONDS["d"]
"""The longest duration. What is kept for much longer would end after the last date that can be stored."""

_HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class MustBe:
    """What the value of a setting must be, in words; `file_is_secret` if it names a file with a secret."""

    text: str
    file_is_secret: bool = False


def _servers(value: object) -> object:
    if isinstance(value, list):
        return value
    servers = [item.strip() for item in str(value).split(",") if item.strip()]
    over_websocket = {server.startswith("ws") for server in servers}
    if len(over_websocket) != 1 or not all(map(_is_server, servers)):
        raise ValueError
    return servers


def _is_server(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in {"nats", "tls", "ws", "wss"} and bool(url.hostname) and url.port != 0
    except ValueError:  # what should be a port is not one
        return False


def _token(value: object) -> object:
    if not is_token(value):
        raise ValueError
    return value


def _reply_prefixes(value: object) -> object:
    prefixes = value if isinstance(value, list) else [item.strip() for item in str(value).split(",")]
    for prefix in prefixes:
        tokens = prefix.split(".")
        if tokens.pop() or not tokens or not all(map(is_token, tokens)) or re.match(r"chat\.|\$", prefix):
            raise ValueError
    return prefixes


def _mongo_uri(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if not text.startswith("mongodb+srv://"):  # to parse this one, the driver would query the name servers
        try:
            parse_uri(text, warn=True)
        except (PyMongoError, ValueError, OSError):
            raise ValueError from None  # the driver's own text may quote a password
    return text


def _duration(value: object) -> object:
    if isinstance(value, int):
        return value
    terms = _DURATION.findall(str(value))
    duration = sum(int(number) * _MILLISECONDS[unit] for number, unit in terms)
    whole = "".join(f"{number}{unit}" for number, unit in terms)
    if not terms or whole != str(value) or duration > _LONGEST:
        raise ValueError
    return duration


def _address(value: object) -> object:
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise ValueError
    return f"{host}:{port}"


TOKEN_TEXT: Final = "a token: 1 to 255 bytes, without '.', '*', '>', white space and control characters"  # noqa: S105 - of a subject
_SERVERS = MustBe(
    "comma-separated servers such as nats://localhost:4222, either all or none of them WebSockets (ws, wss)"
)
_REPLY_PREFIXES = MustBe("comma-separated prefixes such as _INBOX., each ending in '.', and none below chat. or $")
_MONGO_URI = MustBe(
    "a percent-encoded URI such as mongodb://localhost:27017/?replicaSet=rs0, naming only readable files"
)
_DATABASE_NAME = MustBe('a database name: 1 to 63 characters, without / \\ . space " $ * < > : | ?')
_FILE_TEXT: Final = "the path of a readable file"

Servers = Annotated[list[str], NoDecode, BeforeValidator(_servers), _SERVERS]
Token = Annotated[str, BeforeValidator(_token), MustBe(TOKEN_TEXT)]
ReplyPrefixes = Annotated[list[str], NoDecode, BeforeValidator(_reply_prefixes), _REPLY_PREFIXES]
MongoUri = Annotated[SecretStr, BeforeValidator(_mongo_uri), _MONGO_URI]
DatabaseName = Annotated[str, Field(pattern=r'^[^/\\. "$*<>:|?]{1,63}$'), _DATABASE_NAME]
Driver = Annotated[Literal["motor", "pymongo"], MustBe("motor or pymongo")]
Start = Annotated[
    str, Field(pattern=r"^(auto|new|0*[1-9][0-9]*)$"), MustBe("auto, new, or a stream sequence such as 1")
]
Duration = Annotated[int, BeforeValidator(_duration), MustBe("a duration such as 24h, 90m or 30s, at most 3650d")]
Address = Annotated[str, BeforeValidator(_address), MustBe("an address such as :8081 or 127.0.0.1:8081")]
ReadableFile = Annotated[FilePath | None, MustBe(_FILE_TEXT)]
SecretFile = Annotated[FilePath | None, MustBe(_FILE_TEXT, file_is_secret=True)]
OnOff = Annotated[bool, MustBe("on or off")]
TrueFalse = Annotated[bool, MustBe("true or false")]
UpTo1024 = Annotated[int, Field(ge=1, le=1_024), MustBe("a whole number from 1 to 1024")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], MustBe("debug, info, warning or error")]
LogFormat = Annotated[Literal["json", "console"], MustBe("json or console")]
UpTo10000 = Annotated[int, Field(ge=1, le=10_000), MustBe("a whole number from 1 to 10000")]
