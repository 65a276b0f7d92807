"""Commands whose output is read by a program that ends early, such as `head`."""

import asyncio
import os
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.harness import events
from tests.harness.processes import ROOM_WORKER, left_in, variables
from tests.harness.site import PATIENCE, Rig

CLOSED = 141
"""What a shell reports for a program that a closed pipe ends: 128 and the number of SIGPIPE."""


async def closed_output(*args: str, env: dict[str, str]) -> tuple[int, str]:
    """Run the command with nobody to read its output; return its exit code and its standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(ROOM_WORKER, *args, stdout=writer, stderr=PIPE, env={**clean, **env})
    os.close(writer)
    try:
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("check",),
        ("deadletters", "list"),
        ("deadletters", "show", "1"),
        ("deadletters", "replay", "1"),
        ("publish", "rotate", "--room", "r1", "--requester", "alice", "--no-wait"),
    ],
    ids=" ".join,
)
async def test_command_ends_quietly_when_its_output_is_closed(
    site_rig: Rig, command: tuple[str, ...], json: tuple[str, ...]
) -> None:
    await site_rig.db.room_worker_sites.insert_one({"_id": site_rig.site, "partitions": 8})
    headers = {"Room-Worker-Subject": f"chat.room.canonical.{site_rig.site}.create"}
    await site_rig.nc.jetstream().publish(f"chat.room.deadletter.{site_rig.site}", b"{}", headers=headers)
    assert await closed_output(*command, *json, env=variables(site_rig)) == (CLOSED, "")


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["text", "json"])
async def test_tail_ends_quietly_at_the_first_key_that_nobody_reads(site_rig: Rig, json: tuple[str, ...]) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await site_rig.ask("create", events.create("r1", "bob"))
        code, err = await closed_output("tail", "bob", "--count", "3", *json, env=variables(site_rig))
    assert (code, [line for line in err.splitlines() if "listening for keys of bob" not in line]) == (CLOSED, [])


@pytest.mark.parametrize("command", ["demo", "dev"])
async def test_local_servers_are_stopped_when_the_output_is_closed(command: str, tmp_path: Path) -> None:
    code, err = await closed_output(command, env={"TMPDIR": str(tmp_path)})
    assert (code, [line for line in err.splitlines() if "room-worker:" in line or "Error" in line]) == (CLOSED, [])
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("words", [("--help",), ("publish", "create", "--help"), ("--version",)], ids=" ".join)
async def test_help_ends_quietly_when_its_output_is_closed(words: tuple[str, ...]) -> None:
    code, err = await closed_output(*words, env={})
    assert (code != 0, err) == (True, "")
