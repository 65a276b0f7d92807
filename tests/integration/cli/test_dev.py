"""`room-worker dev`: local servers and a worker for experiments."""

import signal
from pathlib import Path

import orjson

from tests.harness.processes import ended, left_in, run, running, says
from worker.cli.terminal.examples import TOUR
from worker.local.servers import NatsServer

ROOM = ("--room", "r1", "--requester", "alice")


async def test_dev_runs_a_worker_and_exits_with_0_on_sigterm(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with running("dev", "--json", "--folder", str(folder), env={"TMPDIR": str(tmp_path)}) as dev:
        about = orjson.loads(await says(dev, "NATS_URL"))
        create = ("publish", "create", *ROOM, "--name", "general", "--user", "bob", "--user", "carol")
        created = await run(*create, env=about["environment"])
        assert created.code == 0, created.err
        stopped = await ended(dev, signal.SIGTERM)
    assert stopped.code == 0
    assert about["users"] == ["alice", "bob", "carol"]
    assert (folder / "mongo").is_dir()


async def test_dev_prints_exports_and_commands_to_paste_and_leaves_nothing_behind_after_ctrl_c(tmp_path: Path) -> None:
    async with running("dev", env={"TMPDIR": str(tmp_path)}) as dev:
        exports = [await says(dev, f"export {name}=") for name in ("NATS_URL", "MONGO_URI", "MONGO_DB", "SITE_ID")]
        assert "'mongodb://127.0.0.1:" in exports[1]
        tour = [await says(dev, f"room-worker {words}") for words in TOUR]
        await says(dev, "Press Ctrl-C to stop")
        for command in tour:  # as somebody would paste it
            pasted = await run("-c", "".join([*exports, command]), env={}, program="sh")
            assert pasted.code == 0, (command, pasted)
        stopped = await ended(dev, signal.SIGINT)
    assert stopped.code == 0
    assert left_in(tmp_path) == []


async def test_dev_fails_when_a_port_is_in_use(own_nats: NatsServer, tmp_path: Path) -> None:
    refused = await run("dev", "--nats-port", str(own_nats.port), env={"TMPDIR": str(tmp_path)})
    assert refused.code == 1
    assert "the port is in use" in refused.err
