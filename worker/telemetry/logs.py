"""Structured logs without secrets.

Events are named by what happened and carry ids and numbers. As a last line of defence whatever looks like
key material is masked: fields named after it, bytes of any kind, and objects that know how to mask themselves.
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
    """Send logs of `level` and above to `stream` (standard error), as JSON lines or for people."""
    out = stream or sys.stderr
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            _in_reading_order,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard library; theirs are rare, and none may print a driver's error text.
    logging.getLogger().setLevel(logging.CRITICAL)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what could be key material."""
    for field, value in event.items():
        event[field] = MASK if field.lower() in _SECRET_FIELDS else _masked(value)
    return event


def _in_reading_order(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put first what a person looks for first."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "part", "event") if name in event}
    return {**first, **event}


def _masked(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {
                name: MASK if str(name).lower() in _SECRET_FIELDS else _masked(item)
                for name, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
        case _:
            return value


def where(error: BaseException) -> str:
    """Describe an error by its type and place; by its text only where that is ours.

    Other texts may quote what the error failed on.
    """
    frames = extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    text = f": {error}" if type(error).__module__ == "roomkeys.errors" and str(error) else ""
    return f"{type(error).__name__}{text}{place}"


def logger(name: str) -> Any:
    """Return the logger of a part of the worker."""
    return structlog.get_logger(part=name)
