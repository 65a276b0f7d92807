"""Whether the installed nats-py is one that `SteadyClient` can build on.

`SteadyClient` overrides and uses private parts of nats-py's client, and any release may change them. A change is
found before it costs a message: by `require_names` before a client is made, and by
`SteadyClient.prove_wire_order` at the start of the worker. (docs/pitfalls.md, items 1 and 10)
"""

from collections.abc import Iterator
from importlib.metadata import version
from inspect import iscoroutinefunction, signature
from typing import Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol import parser

REQUIRED: Final = "~=2.16.0"
"""The series of nats-py in which the names below were read; pyproject.toml requires the same."""

METHODS: Final = (
    "_build_message(self, sid, subject, reply, data, headers)",
    "async _connect_to_server(self, s)",
    "async _flush_pending(self, force_flush)",
    "async _process_connect_init(self)",
    "async _process_err(self, err_msg)",
    "async _process_headers(self, headers)",
    "async _process_info(self, info, initial_connection)",
    "async _process_msg(self, sid, subject, reply, data, headers)",
    "async _process_op_err(self, e)",
    "async _process_pong(self)",
    "async _send_command(self, cmd, priority)",
    "async _send_ping(self, future)",
    "_setup_nkeys_seed_connect(self)",
)
ATTRIBUTES: Final = (
    "_error_cb",
    "_max_payload",
    "_nkeys_seed",
    "_pending",
    "_pending_data_size",
    "_pings_outstanding",
    "_pongs",
    "_ps",
    "msg_class",
)
SUBSCRIPTION: Final = ("_id",)
"""The attributes of a subscription."""

PARSER: Final = ("buf", "header_needed", "msg_arg", "nc", "needed", "state")
"""The attributes of the parser."""

PATTERNS: Final = ("ERR_RE", "HMSG_RE", "MSG_RE")
"""The patterns of `nats.protocol.parser` that `worker/broker/nats_client.py` replaces and uses."""


class IncompatibleClient(Exception):
    """The installed nats-py cannot be used; the message names its version and the required one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"nats-py {version('nats-py')} is installed, but room-worker needs {REQUIRED}: {reason}")


def require_names(client: type[Client] = Client) -> None:
    """Raise `IncompatibleClient` if nats-py lacks a name that `SteadyClient` overrides or uses."""
    if missing := list(_missing(client)):
        raise IncompatibleClient(f"its client lacks {', '.join(missing)}")


def _missing(client: type[Client]) -> Iterator[str]:
    instance = client()
    for shape in METHODS:
        name = shape.partition("(")[0].removeprefix("async ")
        method = getattr(client, name, None)
        prefix = "async " if iscoroutinefunction(method) else ""
        if not callable(method) or f"{prefix}{name}({', '.join(signature(method).parameters)})" != shape:
            yield shape
    yield from (name for name in ATTRIBUTES if not hasattr(instance, name))
    yield from (name for name in SUBSCRIPTION if not hasattr(Subscription(instance), name))
    yield from (name for name in PARSER if not hasattr(parser.Parser(instance), name))
    yield from (name for name in PATTERNS if not hasattr(parser, name))
