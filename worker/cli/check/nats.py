"""The checks of NATS: connection, denied permissions, JetStream, and streams."""

from collections.abc import AsyncIterator
from typing import Final

from nats.js.errors import APIError, ServiceUnavailableError

from worker.broker.connection import Broker
from worker.broker.permissions.rights import Right, denied_rights, rights_of
from worker.cli.check.result import CheckResult, failed, passed, warned
from worker.cli.check.streams import STREAM_NAMES, check_streams
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.process import CommandFailed
from worker.settings import Settings
from worker.telemetry.logs import server_of

_JETSTREAM_DISABLED: Final = frozenset({10_039, 10_076})
"""JetStream's error codes for an account without JetStream."""

_ACCOUNT_INFO: Final = Right("$JS.API.INFO", "$JS.API.INFO")
_RIGHTS_OF_CHECK: Final = (_ACCOUNT_INFO, STREAM_NAMES)

_LOGIN: Final = "set NATS_CREDS_FILE, NATS_NKEY_SEED_FILE, or NATS_USER and NATS_PASSWORD to valid credentials"
_TLS: Final = "set NATS_TLS_CA to the authority of the server's certificate, and NATS_TLS_CERT if it asks for one"
_RESOLVE: Final = "correct NATS_URL, or the name servers of this machine"
_START: Final = "start the server, or set NATS_URL to its address"


async def check_nats(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a result for the connection, for denied permissions, for JetStream, and for streams."""
    try:
        async with nats_connection(settings) as broker:
            number = broker.client.connected_server_version
            version = f"{number.major}.{number.minor}.{number.patch}"
            servers = ", ".join(server_of(url) for url in settings.nats_url)
            yield passed("nats", f"connected to {servers} (nats-server {version})")
            denied = await denied_rights(broker, [*_RIGHTS_OF_CHECK, *rights_of(settings)])
            needed = sorted(str(right) for right in denied if right not in _RIGHTS_OF_CHECK)
            if needed:
                yield failed("permissions", f"denied: {', '.join(needed)}: allow the NATS user these subjects")
            unneeded = sorted(str(right) for right in denied if right in _RIGHTS_OF_CHECK)
            if unneeded:
                yield warned("permissions", f"not checked without {', '.join(unneeded)}, which only `check` needs")
            if any(right.subject.startswith(("$JS.", "_INBOX.")) and right in rights_of(settings) for right in denied):
                return  # the broker answers no request that it denies
            if _ACCOUNT_INFO not in denied:
                jetstream = await _jetstream(broker)
                yield jetstream
                if not jetstream.ok:
                    return
            async for result in check_streams(broker, settings, finds_others=STREAM_NAMES not in denied):
                yield result
    except CommandFailed as failure:
        yield failed("nats", f"{failure}; {connection_advice(str(failure))}")


def connection_advice(failure: str) -> str:
    """Return what to do about a connection that failed with this text."""
    text = failure.lower()
    if any(word in text for word in ("authorization", "authentication", "nonce", "user credentials")):
        return _LOGIN
    if any(word in text for word in ("ssl", "tls", "certificate")):
        return _TLS
    return _RESOLVE if "cannot be resolved" in text else _START


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
