"""Structured logs without secrets.

An event is a short phrase that says what happened; ids and numbers are its fields. As a last line of defence,
anything that may be key material is masked: fields with such a name, bytes of every kind, and objects, whose own
`repr` has to show no key.
"""

import logging
import sys
from collections.abc import MutableMapping
from traceback import extract_tb
from typing import Any, Final, TextIO

import structlog

MASK: Final = "********"
_SECRET_FIELDS: Final = frozenset(
    {"priv", "privatekey", "prevpriv", "secret", "key", "password", "payload", "body", "enckey", "keyrotation"}
)


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Write logs of `level` and above to `stream` (default: standard error).

    `form` is "json" for one JSON object per line, or "console" for text that people read.
    """
    out = stream or sys.stderr
    as_text = form == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            _in_reading_order,
            structlog.dev.ConsoleRenderer(colors=out.isatty()) if as_text else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard library. They log rarely, and their error texts may hold secrets.
    logging.getLogger().setLevel(logging.CRITICAL)


def logger(component: str) -> Any:
    """Return the logger of a component of the worker."""
    return structlog.get_logger(component=component)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what could be key material."""
    return {name: _masked(value, name) for name, value in event.items()}


def where(error: BaseException) -> str:
    """Describe an error by its type and the line that raised it.

    Its text is included only if this project wrote it: other texts may quote the value that caused the error.
    """
    frames = extract_tb(error.__traceback__)
    line = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    text = f": {error}" if type(error).__module__ == "roomkeys.errors" and str(error) else ""
    return f"{type(error).__name__}{text}{line}"


def server_of(url: str) -> str:
    """Return scheme, hosts and ports of a URL, without user, password, path and options."""
    scheme, _, rest = url.partition("://")
    hosts = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    return f"{scheme}://{hosts}"


def _in_reading_order(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the fields first that people look for first."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "component", "event") if name in event}
    return {**first, **event}


def _masked(value: Any, name: object = "") -> Any:
    if str(name).lower() in _SECRET_FIELDS:
        return MASK
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {name: _masked(item, name) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
        case _:
            return value
