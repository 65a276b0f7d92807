"""The rules of AsyncAPI 3.0, as far as docs/asyncapi.yaml uses them."""

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import SchemaError

from tests.harness.asyncapi import Node, resolve

FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "document": ({"asyncapi", "info"}, {"id", "servers", "defaultContentType", "channels", "operations", "components"}),
    "info": ({"title", "version"}, {"description", "termsOfService", "contact", "license", "tags", "externalDocs"}),
    "server": (
        {"host", "protocol"},
        {"protocolVersion", "pathname", "description", "title", "summary", "variables", "security", "tags"}
        | {"externalDocs", "bindings"},
    ),
    "channel": (
        {"address", "messages"},
        {"title", "summary", "description", "servers", "parameters", "tags", "externalDocs", "bindings"},
    ),
    "parameter": (set(), {"enum", "default", "description", "examples", "location"}),
    "operation": (
        {"action", "channel"},
        {"title", "summary", "description", "security", "tags", "externalDocs", "bindings", "traits", "messages"}
        | {"reply"},
    ),
    "reply": (set(), {"address", "channel", "messages"}),
    "message": (
        {"payload"},
        {"headers", "correlationId", "contentType", "name", "title", "summary", "description", "tags"}
        | {"externalDocs", "bindings", "examples", "traits"},
    ),
    "components": (set(), {"schemas", "messages", "parameters"}),
}
"""The fields that each kind of object must have, and may have."""

KEYWORDS = {
    "type", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum",
    "minItems", "maxItems", "minProperties", "maxProperties", "required", "properties", "additionalProperties",
    "items", "oneOf", "anyOf", "allOf", "not", "if", "then", "else", "description", "$ref",
}  # fmt: skip
"""The keywords of JSON Schema that the document uses; any other is a misspelling."""

_NAME = re.compile(r"[\w.-]+")


def broken_rules(document: Node) -> list[str]:
    """Return what is wrong with a document."""
    references = list(_references(document))
    missing = [reference for reference in references if not _is_there(document, reference)]
    if missing:
        return [f"{reference} does not exist" for reference in missing]
    return [
        *_head(document),
        *_channels(document),
        *_operations(document),
        *_components(document),
        *_unused(document, references),
    ]


def _fields(kind: str, name: str, node: Node) -> Iterator[str]:
    must, may = FIELDS[kind]
    yield from (f"{kind} {name} lacks {field}" for field in sorted(must - node.keys()))
    yield from (f"{kind} {name} has {field}" for field in sorted(node.keys() - must - may))


def _head(document: Node) -> Iterator[str]:
    yield from _fields("document", "", document)
    yield from _fields("info", "", document["info"])
    yield from _fields("components", "", document["components"])
    for name, server in document["servers"].items():
        yield from _fields("server", name, server)
    if document["asyncapi"] != "3.0.0":
        yield "the document is for another version of AsyncAPI"


def _channels(document: Node) -> Iterator[str]:
    addresses = [channel["address"] for channel in document["channels"].values()]
    if len(addresses) != len(set(addresses)):
        yield "two channels have one address"
    for name, channel in document["channels"].items():
        yield from _fields("channel", name, channel)
        if set(re.findall(r"{(\w+)}", channel["address"] or "")) != set(channel.get("parameters", {})):
            yield f"channel {name} has other parameters than its address"
        for parameter, node in channel.get("parameters", {}).items():
            yield from _fields("parameter", parameter, resolve(document, node))
        for message, node in channel["messages"].items():
            yield from _fields("message", message, resolve(document, node))


def _operations(document: Node) -> Iterator[str]:
    for name, operation in document["operations"].items():
        yield from _fields("operation", name, operation)
        if operation["action"] not in ("send", "receive"):
            yield f"operation {name} neither sends nor receives"
        yield from _ends(name, operation)
        if "reply" in operation:
            yield from _fields("reply", name, operation["reply"])
            yield from _ends(name, operation["reply"])
            if resolve(document, operation["reply"]["channel"])["address"] is not None:
                yield f"operation {name} is answered at two addresses"


def _ends(name: str, node: Node) -> Iterator[str]:
    """Check that an operation or reply refers to a channel, and only to messages of that channel."""
    channel = node["channel"].get("$ref", "")
    if not re.fullmatch("#/channels/[^/]+", channel):
        yield f"operation {name} does not refer to a channel"
    for message in node.get("messages", []):
        if not message["$ref"].startswith(f"{channel}/messages/"):
            yield f"operation {name} has a message of another channel"


def _components(document: Node) -> Iterator[str]:
    schemas = dict(document["components"]["schemas"])
    for name, message in document["components"]["messages"].items():
        schemas |= {f"{name}/{part}": message[part] for part in ("payload", "headers") if part in message}
        headers = resolve(document, message.get("headers", {"type": "object"}))
        if headers.get("type") != "object":
            yield f"message {name} has headers that are not an object"
    for name, schema in schemas.items():
        try:
            Draft7Validator.check_schema(schema)
        except SchemaError as error:
            yield f"schema {name} is invalid: {error.json_path}"
        else:
            yield from (f"schema {name} {fault}" for fault in _schema(schema))
    for kind, nodes in document["components"].items():
        yield from (f"{kind} {name} is not a valid name" for name in nodes if not _NAME.fullmatch(name))


def _schema(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    yield from (f"has {keyword}" for keyword in sorted(schema.keys() - KEYWORDS))
    if "properties" in schema:
        yield from (f"requires {name}" for name in schema.get("required", []) if name not in schema["properties"])
    lists = [item for keyword in ("oneOf", "anyOf", "allOf") for item in schema.get(keyword, [])]
    single = [schema.get(keyword) for keyword in ("items", "not", "if", "then", "else", "additionalProperties")]
    for inner in (*schema.get("properties", {}).values(), *lists, *single):
        yield from _schema(inner)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)


def _is_there(document: Node, reference: str) -> bool:
    try:
        resolve(document, {"$ref": reference})
    except (KeyError, TypeError):
        return False
    return True


def _unused(document: Node, references: list[str]) -> Iterator[str]:
    used = set(references)
    names = [f"#/channels/{name}" for name in document["channels"]]
    for kind, nodes in document["components"].items():
        names += [f"#/components/{kind}/{name}" for name in nodes]
    yield from (f"{name} is not used" for name in names if name not in used)
