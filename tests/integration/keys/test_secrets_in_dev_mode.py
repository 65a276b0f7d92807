"""Invariant 9 in a separate process: under Python's development mode and asyncio's debug mode, nothing shows a key."""

import asyncio
import signal
import sys
import urllib.request
from base64 import b32encode
from urllib.parse import quote

from tests.harness import events
from tests.harness.processes import ended, running, says, variables
from tests.harness.site import Rig
from tests.integration.keys.test_secrets import spellings
from worker.local.ports import free_port

ROTATIONS = 3


def every_spelling(key: bytes) -> dict[str, bytes]:
    more = {
        "base32": b32encode(key).decode().rstrip("="),
        "percent": quote(key),
        "numbers without spaces": ",".join(map(str, key)),
    }
    return {**spellings(key), **{name: text.encode() for name, text in more.items()}}


async def test_no_key_is_shown_in_dev_mode_and_with_asyncio_debug(site_rig: Rig) -> None:
    port = free_port()
    env = variables(
        site_rig,
        LOG_LEVEL="debug",
        PYTHONASYNCIODEBUG="1",
        METRICS_ADDR=f"127.0.0.1:{port}",
        HEALTH_ADDR=f"127.0.0.1:{port}",
    )
    await site_rig.users("alice", "bob", "carol")
    arguments = ("-X", "dev", "-m", "worker.cli", "run", "--only", "worker")
    async with running(*arguments, env=env, program=sys.executable) as worker:
        first = await says(worker, "ready", on_stderr=True)
        assert (await site_rig.ask("create", events.create("r1", "bob", "carol")))["status"] == "ok"
        for _ in range(ROTATIONS):
            await site_rig.ask("key.rotate", events.rotate("r1"))
        await site_rig.ask("member.remove", events.remove("r1", account="bob"))
        await site_rig.ask("member.add", events.add("r1", "unknown"))
        url = f"http://127.0.0.1:{port}/metrics"
        metrics = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
        stopped = await ended(worker, signal.SIGTERM)
    keys = {secret for _, secret in site_rig.keys("carol")}
    assert len(keys) == ROTATIONS + 2
    shown = first.encode() + stopped.out.encode() + stopped.err.encode() + metrics
    assert b"room_worker_" in metrics
    for key in keys:
        for name, spelling in every_spelling(key).items():
            assert spelling not in shown, name
