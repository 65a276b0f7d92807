"""The checks of NATS: connection, JetStream, and the two streams of the site."""

from collections.abc import AsyncIterator
from typing import Final

from nats.js.api import RetentionPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from roomkeys import subjects
from worker.broker.connection import Broker
from worker.cli.check.result import CheckResult
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.process import CommandFailed
from worker.settings import Settings
from worker.telemetry.logs import server_of

_JETSTREAM_DISABLED: Final = frozenset({10_039, 10_076})
"""JetStream's error codes for an account without JetStream."""

_LOGIN_WORDS: Final = ("authorization", "authentication")


async def check_nats(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a result for the connection, for JetStream, and for each stream of the site."""
    try:
        async with nats_connection(settings) as broker:
            number = broker.client.connected_server_version
            version = f"{number.major}.{number.minor}.{number.patch}"
            servers = ", ".join(server_of(url) for url in settings.nats_url)
            yield CheckResult("nats", ok=True, text=f"connected to {servers} (nats-server {version})")
            jetstream = await _jetstream(broker)
            yield jetstream
            if jetstream.ok:
                yield await _events(broker, settings)
                yield await _dead_letters(broker, settings)
    except CommandFailed as failure:
        yield CheckResult("nats", ok=False, text=f"{failure}; {_advice(str(failure))}")


def _advice(complaint: str) -> str:
    if any(word in complaint.lower() for word in _LOGIN_WORDS):
        return "set NATS_CREDS_FILE, NATS_NKEY_SEED_FILE, or NATS_USER and NATS_PASSWORD to valid credentials"
    return "start the server, or set NATS_URL to its address"


async def _jetstream(broker: Broker) -> CheckResult:
    try:
        account = await broker.jetstream.account_info()
    except ServiceUnavailableError:
        return CheckResult("jetstream", ok=False, text="not enabled: start nats-server with -js")
    except APIError as error:
        if error.err_code in _JETSTREAM_DISABLED:
            text = "not enabled for this account: enable it in the configuration of the server"
        else:
            text = f"denied: {error.description}"
        return CheckResult("jetstream", ok=False, text=text)
    return CheckResult("jetstream", ok=True, text=f"enabled, {account.streams} streams")


async def _events(broker: Broker, settings: Settings) -> CheckResult:
    name, subject = subjects.events_stream(settings.site_id), subjects.events_subjects(settings.site_id)
    info = await _info(broker, name)
    if info is None:
        return _missing("events", name, subject, settings)
    if info.config.retention not in {None, RetentionPolicy.LIMITS}:
        text = f"{name} has retention {info.config.retention}, which may delete events before they are applied"
        return CheckResult("events", ok=False, text=f"{text}: recreate it with retention limits")
    return _found("events", info, subject)


async def _dead_letters(broker: Broker, settings: Settings) -> CheckResult:
    name, subject = subjects.dead_letter_stream(settings.site_id), subjects.dead_letter_subject(settings.site_id)
    info = await _info(broker, name)
    if info is None:
        return _missing("dead letters", name, subject, settings)
    return _found("dead letters", info, subject)


def _found(part: str, info: StreamInfo, subject: str) -> CheckResult:
    name, captured = info.config.name, info.config.subjects or []
    if subject not in captured and ">" not in captured:
        text = f"{name} captures {', '.join(captured) or 'no subject'}: add the subject {subject}"
        return CheckResult(part, ok=False, text=text)
    return CheckResult(part, ok=True, text=f"{name} contains {info.state.messages} messages")


def _missing(part: str, name: str, subject: str, settings: Settings) -> CheckResult:
    if settings.bootstrap_streams:
        return CheckResult(part, ok=True, text=f"{name} is missing; the worker creates it (BOOTSTRAP_STREAMS)")
    create = f"nats stream add {name} --subjects '{subject}' --retention limits --defaults"
    text = f"{name} is missing: create it ({create}), or set BOOTSTRAP_STREAMS=true"
    return CheckResult(part, ok=False, text=text)


async def _info(broker: Broker, name: str) -> StreamInfo | None:
    try:
        return await broker.jetstream.stream_info(name)
    except NotFoundError:
        return None
