"""What is right or amiss with NATS, as `room-worker check` sees it."""

from collections.abc import AsyncIterator
from typing import Final

from nats.js.api import RetentionPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from roomkeys import subjects
from worker.broker.connection import Broker
from worker.cli.check.finding import CheckResult
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.process import Failed
from worker.settings import Settings
from worker.telemetry.logs import server_of

_JETSTREAM_DISABLED: Final = frozenset({10_039, 10_076})
_REFUSED: Final = ("authorization", "authentication")


async def nats_findings(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a line about the connection, JetStream and each of the site's streams."""
    try:
        async with nats_connection(settings) as broker:
            about = broker.client.connected_server_version
            version = f"{about.major}.{about.minor}.{about.patch}"
            where = ", ".join(server_of(url) for url in settings.nats_url)
            yield CheckResult("nats", ok=True, text=f"{where} answers (nats-server {version})")
            jetstream = await _jetstream(broker)
            yield jetstream
            if jetstream.ok:
                yield await _events(broker, settings)
                yield await _dead_letters(broker, settings)
    except Failed as failure:
        yield CheckResult("nats", ok=False, text=f"{failure}; {_mend(str(failure))}")


def _mend(complaint: str) -> str:
    if any(word in complaint.lower() for word in _REFUSED):
        return (
            "set NATS_CREDS_FILE, NATS_NKEY_SEED_FILE, or NATS_USER and NATS_PASSWORD to what the server accepts"
        )
    return "start it, or set NATS_URL to where it is"


async def _jetstream(broker: Broker) -> CheckResult:
    try:
        account = await broker.jetstream.account_info()
    except ServiceUnavailableError:
        return CheckResult("jetstream", ok=False, text="not enabled: start nats-server with -js")
    except APIError as error:
        if error.err_code in _JETSTREAM_DISABLED:
            return CheckResult(
                "jetstream", ok=False, text="not enabled for this account: enable it in the configuration"
            )
        return CheckResult("jetstream", ok=False, text=f"refused: {error.description}")
    return CheckResult("jetstream", ok=True, text=f"enabled, {account.streams} streams")


async def _events(broker: Broker, settings: Settings) -> CheckResult:
    name, subject = subjects.events_stream(settings.site_id), subjects.events_subjects(settings.site_id)
    info = await _info(broker, name)
    if info is None:
        return _missing(name, subject, settings)
    if info.config.retention not in {None, RetentionPolicy.LIMITS}:
        text = f"{name} has retention {info.config.retention}, so that events vanish before they are applied"
        return CheckResult("events", ok=False, text=f"{text}: make it anew with retention limits")
    return _stream("events", info, subject)


async def _dead_letters(broker: Broker, settings: Settings) -> CheckResult:
    name, subject = subjects.dead_letter_stream(settings.site_id), subjects.dead_letter_subject(settings.site_id)
    info = await _info(broker, name)
    return _missing(name, subject, settings) if info is None else _stream("dead letters", info, subject)


def _stream(part: str, info: StreamInfo, subject: str) -> CheckResult:
    name, taken = info.config.name, info.config.subjects or []
    if subject not in taken and ">" not in taken:
        return CheckResult(part, ok=False, text=f"{name} takes {taken}: add the subject {subject}")
    return CheckResult(part, ok=True, text=f"{name} holds {info.state.messages} messages")


def _missing(name: str, subject: str, settings: Settings) -> CheckResult:
    part = "events" if name == subjects.events_stream(settings.site_id) else "dead letters"
    if settings.bootstrap_streams:
        return CheckResult(part, ok=True, text=f"{name} is missing; the worker creates it (BOOTSTRAP_STREAMS)")
    mend = f"nats stream add {name} --subjects '{subject}' --retention limits --defaults"
    return CheckResult(part, ok=False, text=f"{name} is missing: {mend}, or set BOOTSTRAP_STREAMS=true")


async def _info(broker: Broker, name: str) -> StreamInfo | None:
    try:
        return await broker.jetstream.stream_info(name)
    except NotFoundError:
        return None
