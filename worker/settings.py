"""Settings, from the environment alone. (contract.md, section 7)

A wrong or missing one raises `WrongSetting`, which names the variable and what it must be.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from roomkeys.tokens import is_token

_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST: Final = 3_650 * _MILLISECONDS["d"]
"""The longest duration: what is to be remembered longer has no date."""


class WrongSetting(Exception):
    """A setting that is wrong or missing; the message names the variable and what it must be."""


def _servers(value: object) -> object:
    if isinstance(value, list):
        return value
    servers = [part.strip() for part in str(value).split(",") if part.strip()]
    over_websocket = {server.startswith("ws") for server in servers}
    if len(over_websocket) != 1 or not all(map(_is_server, servers)):
        raise ValueError("comma-separated servers such as nats://localhost:4222, all of them ws:// or none")
    return servers


def _is_server(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"nats", "tls", "ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is none
        return False


def _site(value: object) -> object:
    if not is_token(value):
        raise ValueError("a token: not empty, without '.', '*', '>' and white space")
    return value


def _reply_prefixes(value: object) -> object:
    prefixes = value if isinstance(value, list) else [part.strip() for part in str(value).split(",")]
    for prefix in prefixes:
        tokens = prefix.split(".")
        if tokens.pop() or not tokens or not all(map(is_token, tokens)) or re.match(r"chat\.|\$", prefix):
            raise ValueError("comma-separated prefixes such as _INBOX., each ending in '.', not below chat. or $")
    return prefixes


def _mongo_uri(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    complaint = "a URI such as mongodb://localhost:27017/?replicaSet=rs0, percent-encoded, whose files can be read"
    if not text.startswith("mongodb+srv://"):  # which would ask the name servers
        try:
            parse_uri(text, warn=True)
        except (PyMongoError, ValueError, OSError):  # whose texts may quote a password
            raise ValueError(complaint) from None
    return text


def _duration(value: object) -> object:
    if isinstance(value, int):
        return value
    parts = _DURATION.findall(str(value))
    duration = sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)
    whole = "".join(f"{number}{unit}" for number, unit in parts)
    if not parts or whole != str(value) or duration > _LONGEST:
        raise ValueError("a duration such as 24h, 90m or 30s, at most 3650d")
    return duration


def _start(value: object) -> object:
    text = str(value)
    if text not in {"auto", "new"} and not (text.isdecimal() and int(text) >= 1):
        raise ValueError("auto, new, or a stream sequence such as 1")
    return text


def _address(value: object) -> object:
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the highest port
        raise ValueError("an address such as :8081 or 127.0.0.1:8081")
    return f"{host}:{port}"


def _file(value: object) -> object:
    if value is not None and not Path(str(value)).is_file():
        raise ValueError("the path of a file that can be read")
    return value


ReadableFile = Annotated[Path | None, BeforeValidator(_file)]
Address = Annotated[str, BeforeValidator(_address)]


class Settings(BaseSettings):
    """Every setting, by the lower-case name of its variable. Durations are milliseconds."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    nats_url: Annotated[list[str], NoDecode, BeforeValidator(_servers)] = ["nats://localhost:4222"]
    nats_creds_file: ReadableFile = None
    nats_nkey_seed_file: ReadableFile = None
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_tls_ca: ReadableFile = None
    nats_tls_cert: ReadableFile = None
    nats_tls_key: ReadableFile = None
    site_id: Annotated[str, BeforeValidator(_site)] = "site-local"
    mongo_uri: Annotated[SecretStr, BeforeValidator(_mongo_uri)] = SecretStr(
        "mongodb://localhost:27017/?replicaSet=rs0"
    )
    mongo_db: Annotated[str, Field(pattern=r'^[^/\\. "$*<>:|?]{1,63}$')] = "chat"
    mongo_username: str | None = None
    mongo_password: SecretStr | None = None
    mongo_password_file: ReadableFile = None
    mongo_driver: Literal["motor", "pymongo"] = "motor"
    bootstrap_streams: bool = False
    start_from: Annotated[str, BeforeValidator(_start)] = "auto"
    key_fanout_workers: Annotated[int, Field(ge=1, le=1024)] = 32
    max_batch_events: Annotated[int, Field(ge=1, le=10_000)] = 256
    grace_ms: Annotated[int, BeforeValidator(_duration)] = Field(
        86_400_000, validation_alias=AliasChoices("ROOM_KEY_GRACE_PERIOD", "grace_ms")
    )
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    key_service: bool = True
    key_service_queue: Annotated[str, BeforeValidator(_site)] = "room-keys"
    key_service_replies: Annotated[list[str], NoDecode, BeforeValidator(_reply_prefixes)] = ["_INBOX."]
    health_addr: Address = ":8081"
    metrics_addr: Address = ":9090"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @model_validator(mode="after")
    def _belong_together(self) -> "Settings":
        for one, other in (
            ("nats_user", "nats_password"),
            ("nats_tls_cert", "nats_tls_key"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one.upper()} and {other.upper()} go together")
        if self.mongo_username is not None and not self.mongo_secret:
            raise ValueError("MONGO_USERNAME needs MONGO_PASSWORD or MONGO_PASSWORD_FILE")
        return self

    @property
    def mongo_secret(self) -> str | None:
        """Return MongoDB's password, from the file where one is named."""
        if self.mongo_password_file is not None:
            try:
                return self.mongo_password_file.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise ValueError("MONGO_PASSWORD_FILE must be a file of text that can be read") from None
        return None if self.mongo_password is None else self.mongo_password.get_secret_value()


def read_settings(**given: Any) -> Settings:
    """Read the settings from the environment; what is given by name goes before it."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise WrongSetting("\n".join(_complaint(item) for item in error.errors())) from None


_MEANING: Final = {
    "mongo_db": 'a database name: 1 to 63 characters without / \\ . space " $ * < > : | ?',
    "mongo_driver": "motor or pymongo",
    "bootstrap_streams": "true or false",
    "key_fanout_workers": "a whole number from 1 to 1024",
    "max_batch_events": "a whole number from 1 to 10000",
    "partitions": "a whole number from 1 to 1024",
    "key_service": "on or off",
    "log_level": "debug, info, warning or error",
    "log_format": "json or console",
}


def _complaint(item: Any) -> str:
    """Say which variable is wrong and what it must be; never what it was: it may be a secret."""
    text = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return text
    field = str(item["loc"][0])
    variable = "ROOM_KEY_GRACE_PERIOD" if field == "grace_ms" else field.upper()
    return f"{variable} must be {_MEANING.get(field, text)}"
