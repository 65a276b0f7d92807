"""docs/asyncapi.yaml, as something that messages are held against."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml
from jsonschema import Draft7Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT7

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
BASE = "urn:asyncapi"
Node = dict[str, Any]


class Place(NamedTuple):
    """Where in the document a message stands: a channel, or the reply to what came by one."""

    channel: str
    message: str
    reply: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the wire; `asked` is the subject of the request that it replies to."""

    subject: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: str | None = None

    @property
    def document(self) -> Any:
        """Return the JSON document that it is, or else its text."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return self.body.decode(errors="replace")


@cache
def document() -> Node:
    """Read the document."""
    return dict(yaml.safe_load(DOCUMENT.read_text()))


def resolve(root: Node, node: Any) -> Any:
    """Return what a node stands for; `KeyError`: what it refers to is not there."""
    while isinstance(node, dict) and "$ref" in node:
        parts = node["$ref"].removeprefix("#/").split("/")
        node = root
        for part in parts:
            node = node[part]
    return node


def channels_of(subject: str) -> list[str]:
    """Return the names of the channels whose address the subject is."""
    return [
        name
        for name, channel in document()["channels"].items()
        if channel["address"] is not None and _pattern(channel["address"]).fullmatch(subject)
    ]


def replies(channel: str) -> list[str]:
    """Return the names of the messages that a request by the channel may be replied with."""
    (operation,) = [
        item for item in document()["operations"].values() if item["channel"]["$ref"].endswith(f"/{channel}")
    ]
    return [item["$ref"].rpartition("/")[2] for item in operation.get("reply", {}).get("messages", [])]


def places() -> set[Place]:
    """Return everywhere that the document has a message."""
    channels = {name: item for name, item in document()["channels"].items() if item["address"] is not None}
    return {Place(name, message) for name, item in channels.items() for message in item["messages"]} | {
        Place(name, message, reply=True) for name in channels for message in replies(name)
    }


def place(sent: Sent) -> tuple[list[Place], list[str]]:
    """Return where in the document a message has its place, and why it has none elsewhere; no values of it.

    It is one place for what is as it should be.
    """
    subject = sent.subject if sent.asked is None else sent.asked
    channels = channels_of(subject)
    found, whys = [], [f"{len(channels)} channels for {subject}"] if len(channels) != 1 else []
    for channel in channels:
        names = list(document()["channels"][channel]["messages"]) if sent.asked is None else replies(channel)
        for name in names:
            wrong = list(faults(name, sent))
            whys += [f"{channel}/{name}: {fault}" for fault in wrong]
            found += [] if wrong else [Place(channel, name, sent.asked is not None)]
    return found, whys


def faults(message: str, sent: Sent) -> Iterator[str]:
    """Yield what is wrong with what was sent, if it is to be this message."""
    node = document()["components"]["messages"][message]
    for part, value, kind in (("payload", sent.document, InOrder), ("headers", dict(sent.headers), Draft7Validator)):
        if part in node:
            schema = {"$ref": f"{BASE}#/components/messages/{message}/{part}"}
            for error in kind(schema, registry=_registry()).iter_errors(value):
                yield f"{part} {error.json_path} {error.validator}"


@cache
def _pattern(address: str) -> re.Pattern[str]:
    parts = [r"[^.]+" if part.startswith("{") else re.escape(part) for part in address.split(".")]
    return re.compile(r"\.".join(parts))


@cache
def _registry() -> Any:
    return Registry().with_resource(BASE, DRAFT7.create_resource(document()))


def _properties(validator: Any, properties: Node, value: Any, schema: Node) -> Iterator[ValidationError]:
    """Check properties; where there may be no others, their order too."""
    yield from Draft7Validator.VALIDATORS["properties"](validator, properties, value, schema)
    if schema.get("additionalProperties") is False and isinstance(value, dict):
        known = [name for name in value if name in properties]
        if known != [name for name in properties if name in value]:
            yield ValidationError("out of order")


InOrder = validators.extend(Draft7Validator, {"properties": _properties})
"""JSON Schema, except that fields come in the order in which a schema without other fields lists them."""
