"""Structured logs without secrets.

An event is a short phrase that says what happened; ids and numbers are its fields. As a last line of defence,
anything that may be key material is masked: fields with such a name, bytes of every kind, and objects, whose own
`repr` has to show no key.

A flood of requests or errors does not become a flood of lines: `LineLimit` bounds the lines of each event.
"""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
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
            LineLimit(),
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


@dataclass(slots=True)
class LineLimit:
    """Drops lines of an event that comes often: after `burst` lines, one line per second is left.

    The line after a gap says in the field `suppressed` how many lines of its event were dropped before it. The table
    has one entry per event name; the names are constants of the code, so it stays small.
    """

    burst: int = 64
    clock: Callable[[], float] = time.monotonic
    _events: dict[tuple[object, object], tuple[float, int]] = field(default_factory=dict)
    """By component and event: the moment at which all its lines are paid off, and the lines dropped since the last."""

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event, or raise `DropEvent`."""
        now, kind = self.clock(), (event.get("component"), event["event"])
        paid_off, dropped = self._events.get(kind, (now, 0))
        paid_off = max(paid_off, now) + 1.0
        if paid_off - now > self.burst:
            self._events[kind] = (paid_off - 1.0, dropped + 1)
            raise structlog.DropEvent
        self._events[kind] = (paid_off, 0)
        if dropped:
            event["suppressed"] = dropped
        return event


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
