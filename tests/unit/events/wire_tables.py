"""Events of a wrong shape, as tables: what the worker, docs/asyncapi.yaml and the oracle must all refuse.

Each of them goes through a table in one test, which names every row that fails. A new way for an event to be
wrong is a new row here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from tests.unit.builders import BODIES

NOT_OBJECTS: Final = {
    "nothing": b"",
    "not JSON": b"{roomId: r1}",
    "cut off": b'{"roomId":"r1"',
    "two documents": b"{}{}",
    "invalid UTF-8": b'{"roomId":"r\xff"}',
    "not a number": b'{"timestamp":NaN}',
    "a list": b"[]",
    "a text": b'"r1"',
    "null": b"null",
    "5,000 levels": b'{"roomId":"r1","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "5,000 levels left open": b'{"a":' * 5_000,
}
"""Bodies that are not one JSON object."""

NOT_TOKENS: Final = {
    "space": "a b",
    "dot": "x.y",
    "star": "*",
    "wildcard": ">",
    "inner star": "a*b",
    "forged line": "a\r\nPUB x 0\r\n",
    "newline": "a\n",
    "tab": "a\tb",
    "nul": "a\x00",
    "delete": "a\x7f",
    "no-break space": "a\xa0b",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "ideographic space": "a\u3000b",
    "too long": "a" * 256,
    "too long in bytes": "é" * 128,
}
"""Texts that must not become part of a subject."""

_NOT_NULL_TEXTS: Final = [5, 1.5, True, [], {}]
_NOT_TEXTS: Final = ["bob", 5, True, {}, [5], [None], [["bob"]], [{}]]
_NOT_TIMES: Final = [-1, 1.5, "1747000000000", True, [], {}, 253_402_300_800_000]
WRONG_VALUES: Final[Mapping[str, Mapping[str, list[object]]]] = {
    "create": {
        "roomId": [None, "", *_NOT_NULL_TEXTS],
        "name": [*_NOT_NULL_TEXTS, "n" * 1_025],
        "users": _NOT_TEXTS,
        "orgs": [*_NOT_TEXTS, [""]],
        "resolvedUsers": _NOT_TEXTS,
        "resolvedOrgs": _NOT_TEXTS,
        "channels": ["r2", 5, {}],
        "requesterAccount": [None, *_NOT_NULL_TEXTS],
        "timestamp": _NOT_TIMES,
    },
    "member.add": {
        "roomId": [None, "", *_NOT_NULL_TEXTS],
        "users": _NOT_TEXTS,
        "orgs": [*_NOT_TEXTS, [""]],
        "history": ["none", 5, [], {"mode": 5}],
        "requesterAccount": [None, *_NOT_NULL_TEXTS],
        "timestamp": _NOT_TIMES,
    },
    "member.remove": {
        "roomId": [None, "", *_NOT_NULL_TEXTS],
        "account": _NOT_NULL_TEXTS[:3],
        "accounts": _NOT_TEXTS,
        "orgId": [5, True, ["eng"], {"eng": 1}, "eng"],
        "requester": [None, *_NOT_NULL_TEXTS],
        "timestamp": _NOT_TIMES,
    },
    "key.rotate": {
        "roomId": [None, "", *_NOT_NULL_TEXTS],
        "requester": [None, *_NOT_NULL_TEXTS],
        "timestamp": _NOT_TIMES,
    },
}
"""By subject suffix and field, the values that the field cannot have."""


@dataclass(frozen=True)
class Row:
    """One message: the suffix of its subject, its body, and the field and value that make it wrong."""

    suffix: str
    body: bytes = field(repr=False)
    field: str
    value: object

    def __str__(self) -> str:
        return f"{self.suffix} {self.field}: {self.value!r:.60}"


def with_value(suffix: str, name: str, value: object) -> Row:
    """Return the row of a good body in which one field has another value."""
    return Row(suffix, orjson.dumps(BODIES[suffix] | {name: value}), name, value)


NO_OBJECT: Final = [Row(suffix, body, "body", kind) for suffix in BODIES for kind, body in NOT_OBJECTS.items()]

WRONG_SHAPES: Final = [
    with_value(suffix, name, value)
    for suffix, fields in WRONG_VALUES.items()
    for name, values in fields.items()
    for value in values
]


def not_token_rows(values: Iterable[str]) -> list[Row]:
    """Return the rows in which a room id or an account has one of these values."""
    return [
        with_value(suffix, name, value)
        for suffix, body in BODIES.items()
        for name, good in body.items()
        if isinstance(good, str) and name != "name"
        for value in values
    ]


def check_each(rows: Iterable[Row], check: Callable[[Row], None]) -> None:
    """Check every row, and fail once with all the rows that failed."""
    failed = []
    for row in rows:
        try:
            check(row)
        except Exception as error:  # noqa: BLE001 - whatever a row raises is reported with the row
            failed.append(f"{row}\n    {type(error).__name__}: {error}")
    if failed:
        raise AssertionError("\n".join([f"{len(failed)} rows failed", *failed]))
