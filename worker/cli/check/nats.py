"""The checks of NATS: connection, denied permissions, JetStream, and the two streams of the site."""

from collections.abc import AsyncIterator
from typing import Final

from nats.js.api import RetentionPolicy
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from roomkeys import subjects
from worker.broker.connection import Broker
from worker.broker.rights import Right, denied_rights, rights_of
from worker.cli.check.result import CheckResult, failed, passed
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.process import CommandFailed
from worker.settings import Settings
from worker.telemetry.logs import server_of

_JETSTREAM_DISABLED: Final = frozenset({10_039, 10_076})
"""JetStream's error codes for an account without JetStream."""

_ACCOUNT_INFO: Final = Right("$JS.API.INFO", "$JS.API.INFO")

_LOGIN: Final = "set NATS_CREDS_FILE, NATS_NKEY_SEED_FILE, or NATS_USER and NATS_PASSWORD to valid credentials"
_START: Final = "start the server, or set NATS_URL to its address"


async def check_nats(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a result for the connection, for denied permissions, for JetStream, and for each stream of the site."""
    site = settings.site_id
    try:
        async with nats_connection(settings) as broker:
            number = broker.client.connected_server_version
            version = f"{number.major}.{number.minor}.{number.patch}"
            servers = ", ".join(server_of(url) for url in settings.nats_url)
            yield passed("nats", f"connected to {servers} (nats-server {version})")
            denied = {right.subject for right in await denied_rights(broker, [_ACCOUNT_INFO, *rights_of(settings)])}
            if denied:
                names = ", ".join(sorted(denied))
                yield failed("permissions", f"denied: {names}: allow the NATS user these subjects")
            if any(subject.startswith(("$JS.", "_INBOX.")) for subject in denied):
                return  # the broker answers no request that it denies
            jetstream = await _jetstream(broker)
            yield jetstream
            if jetstream.ok:
                name, subject = subjects.events_stream(site), subjects.events_subjects(site)
                yield await _stream(broker, "events", name, subject, settings)
                name, subject = subjects.dead_letter_stream(site), subjects.dead_letter_subject(site)
                yield await _stream(broker, "dead letters", name, subject, settings)
    except CommandFailed as failure:
        is_refused = any(word in str(failure).lower() for word in ("authorization", "authentication"))
        yield failed("nats", f"{failure}; {_LOGIN if is_refused else _START}")


async def _jetstream(broker: Broker) -> CheckResult:
    try:
        account = await broker.jetstream.account_info()
    except ServiceUnavailableError:
        return failed("jetstream", "not enabled: start nats-server with -js")
    except APIError as error:
        if error.err_code in _JETSTREAM_DISABLED:
            return failed("jetstream", "not enabled for this account: enable it in the configuration of the server")
        return failed("jetstream", f"denied: {error.description}")
    return passed("jetstream", f"enabled, {account.streams} streams")


async def _stream(broker: Broker, part: str, name: str, subject: str, settings: Settings) -> CheckResult:
    try:
        info = await broker.jetstream.stream_info(name)
    except NotFoundError:
        if settings.bootstrap_streams:
            return passed(part, f"{name} is missing; the worker creates it (BOOTSTRAP_STREAMS)")
        create = f"nats stream add {name} --subjects '{subject}' --retention limits --defaults"
        return failed(part, f"{name} is missing: create it ({create}), or set BOOTSTRAP_STREAMS=true")
    captured = info.config.subjects or []
    if part == "events" and info.config.retention not in {None, RetentionPolicy.LIMITS}:
        text = f"{name} has retention {info.config.retention}, which may delete events before they are applied"
        return failed(part, f"{text}: recreate it with retention limits")
    if subject not in captured and ">" not in captured:
        return failed(part, f"{name} captures {', '.join(captured) or 'no subject'}: add the subject {subject}")
    return passed(part, f"{name} contains {info.state.messages} messages")
