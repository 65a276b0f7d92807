"""The witness of a site's id: a copy in the metadata of the events stream.

Everybody who reads the stream may read it, without a further permission. To write it, the worker needs to be allowed
to update the stream; an operator can write it instead. (docs/adr/0017-the-stream-witnesses-the-site.md)
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from roomkeys.subjects import events_stream
from worker.broker.connection import Broker, BrokerUnavailable
from worker.broker.jetstream.stream import inspect, requests_to

SITE: Final = "room-worker.site"
DATABASE: Final = "room-worker.database"
"""The keys of the metadata."""

_UPDATE_SECONDS: Final = 1.0
"""How long an update may take. The broker does not answer one that it denies."""


@dataclass(frozen=True, slots=True)
class Witness:
    """The id of a site, and the name of the database that has it, for people."""

    site_id: str
    database: str


async def read_witness(broker: Broker, site: str) -> Witness | None:
    """Return what the events stream says, or None if it says nothing; the errors are those of `inspect`."""
    info = await inspect(broker, events_stream(site))
    metadata = info.config.metadata or {}
    return Witness(metadata[SITE], metadata.get(DATABASE, "?")) if metadata.get(SITE) else None


async def write_witness(broker: Broker, site: str, witness: Witness) -> None:
    """Add the witness to the metadata of the events stream unless it has one; `BrokerUnavailable` if that fails.

    The configuration is sent back as it came: this client does not know every field of a newer server.
    """
    stream = events_stream(site)
    with requests_to(broker, stream):
        info = await _request(broker, f"STREAM.INFO.{stream}", b"")
        config = info.get("config") or {}
        metadata = config.get("metadata") or {}
        if metadata.get(SITE):  # another replica was faster
            return
        config["metadata"] = {**metadata, SITE: witness.site_id, DATABASE: witness.database}
        answer = await _request(broker, f"STREAM.UPDATE.{stream}", orjson.dumps(config))
    if "error" in answer:
        raise BrokerUnavailable(str(answer["error"].get("description", "refused")))


async def _request(broker: Broker, subject: str, body: bytes) -> dict[str, dict[str, Any]]:
    reply = await broker.client.request(f"$JS.API.{subject}", body, timeout=_UPDATE_SECONDS)
    answer: dict[str, dict[str, Any]] = orjson.loads(reply.data)
    return answer
