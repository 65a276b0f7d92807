"""`room-worker run`: two processes behind one address, each restarted when it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.harness import events
from tests.harness.key_service import Asker
from tests.harness.pages import page, until_status
from tests.harness.polling import PATIENCE, until
from tests.harness.processes import ROOM_WORKER, ended, running, says, variables
from tests.harness.site import Rig
from worker.local.ports import HOST, free_port

BUDGET = 8.0
"""Seconds within which SIGTERM ends the program. (docs/contract.md, section 7)"""


def halves(process: Process) -> dict[str, int]:
    """Return the process id of each half that runs, by role."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    return {words[words.index(b"--only") + 1].decode(): pid for pid, words in commands.items() if b"--only" in words}


@pytest.fixture
def address() -> str:
    return f"{HOST}:{free_port()}"


@pytest.fixture
def env(site_rig: Rig, address: str) -> dict[str, str]:
    return variables(site_rig, HEALTH_ADDR=address, METRICS_ADDR=address)


async def test_both_halves_do_their_work_and_share_one_address(
    site_rig: Rig, address: str, env: dict[str, str]
) -> None:
    await site_rig.users("alice", "bob")
    async with running("run", env=env) as process:
        await until_status(address, "/readyz", 200)
        assert set(halves(process)) == {"worker", "service"}
        assert (await site_rig.ask("create", events.create("r1", "bob")))["status"] == "ok"
        assert (await Asker(site_rig.nc, site_rig.site).get("bob", "r1"))["version"] == 0
        _, metrics = await page(address, "/metrics")
        assert 'room_worker_events_total{operation="room.create",status="ok"} 1.0' in metrics
        assert 'room_worker_requests_total{endpoint="key-get",outcome="ok"} 1.0' in metrics
        stopped = await ended(process, signal.SIGTERM)
    assert stopped.code == 0
    assert stopped.err.count('"stopped"') == 2


@pytest.mark.parametrize("role", ["worker", "service"])
async def test_half_that_is_killed_is_restarted_while_the_other_goes_on(
    site_rig: Rig, address: str, env: dict[str, str], role: str
) -> None:
    await site_rig.users("alice", "bob")
    async with running("run", env=env) as process:
        await until_status(address, "/readyz", 200)
        before = halves(process)
        os.kill(before[role], signal.SIGKILL)
        assert role in await until_status(address, "/readyz", 503)
        line = await says(process, "a half of the service ended", on_stderr=True)
        assert f'"half":"{role}","exit":-9' in line.replace(": ", ":").replace(", ", ",")
        if role == "worker":
            assert (await Asker(site_rig.nc, site_rig.site).get("bob", "r1"))["reason"] == "not_room_member"
        else:
            assert (await site_rig.ask("create", events.create("r1", "bob")))["status"] == "ok"
        await until_status(address, "/readyz", 200)
        after = halves(process)
        assert f'room_worker_restarts_total{{half="{role}"}} 1.0' in (await page(address, "/metrics"))[1]
        stopped = await ended(process, signal.SIGTERM)
    assert [name for name in before if before[name] != after[name]] == [role]
    assert stopped.code == 0


async def test_half_that_hangs_is_stuck_in_healthz_and_killed_in_the_end(address: str, env: dict[str, str]) -> None:
    async with running("run", env=env) as process:
        await until_status(address, "/readyz", 200)
        os.kill(halves(process)["service"], signal.SIGSTOP)
        assert "service" in await until_status(address, "/healthz", 503)
        async with asyncio.timeout(BUDGET):
            stopped = await ended(process, signal.SIGTERM)
    assert stopped.code == 1
    assert "did not stop in time" in stopped.err


async def test_halves_stop_when_the_supervisor_is_killed(address: str, env: dict[str, str]) -> None:
    async with running("run", env=env) as process:
        await until_status(address, "/readyz", 200)
        process.kill()
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE)  # its pipe ends with the last half
    assert err.count(b'"stopped"') == 2


async def test_key_service_that_is_off_has_no_process(address: str, env: dict[str, str]) -> None:
    async with running("run", env={**env, "KEY_SERVICE": "off"}) as process:
        await until_status(address, "/readyz", 200)
        assert set(halves(process)) == {"worker"}
        assert (await ended(process, signal.SIGTERM)).code == 0


@pytest.mark.parametrize("only", [[], ["--only", "worker"], ["--only", "service"]], ids=["both", "worker", "service"])
async def test_signal_at_the_start_is_not_lost(only: list[str], env: dict[str, str]) -> None:
    """The signal comes while the program still imports: it has handled it since its first lines."""
    async with running("run", *only, env=env) as process:
        await until_kept(process)
        async with asyncio.timeout(BUDGET):
            assert (await ended(process, signal.SIGTERM)).code == 0


async def until_kept(process: Process) -> None:
    """Wait until the process handles SIGTERM."""
    status = Path(f"/proc/{process.pid}/status")

    def is_kept() -> int:
        (caught,) = (line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1

    await until(is_kept)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_run_with_closed_descriptors_serves_and_stops(closed: str, address: str, env: dict[str, str]) -> None:
    async with running("-c", f"exec {ROOM_WORKER} run {closed}", env=env, program="sh") as process:
        await until_status(address, "/readyz", 200)
        assert (await ended(process, signal.SIGTERM)).code == 0


def test_supervisor_imports_neither_driver_nor_client() -> None:
    listing = "import sys, worker.cli.run; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    large = {"pymongo", "motor", "nats", "pydantic", "aiohttp", "rich", "structlog", "prometheus_client", "uvloop"}
    assert not set(loaded.stdout.split()) & large


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: local"], ids=["idle", "half-sent"])
async def test_more_connections_than_descriptors_keep_no_probe_out(
    sent: bytes, address: str, env: dict[str, str]
) -> None:
    command = f"ulimit -n 1024; exec {ROOM_WORKER} run"
    host, port = address.split(":")
    async with running("-c", command, env=env, program="sh"), AsyncExitStack() as stack:
        await until_status(address, "/readyz", 200)
        for _ in range(1_144):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(sent)
        assert [(await page(address, path))[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
