"""`room-worker demo`: plays its story, verifies it, and leaves nothing behind."""

import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from nats.aio.client import Client

from roomkeys.client import KeyStore, RoomKeys
from tests.harness.processes import ended, left_in, run, running, says
from worker.cli.demo import subscriber
from worker.cli.demo.command import demo


async def test_demo_passes_and_prints_its_story_without_a_terminal(tmp_path: Path) -> None:
    played = await run("demo", env={"TMPDIR": str(tmp_path)})
    assert played.code == 0, played.err
    assert played.err == ""
    assert "\x1b" not in played.out
    lines = [line.strip() for line in played.out.splitlines()]
    assert "keys sent: alice v0 ••••, bob v0 ••••, carol v0 ••••" in lines
    assert "keys sent: dave v0 ••••" in lines
    assert "keys sent: alice v1 ••••, dave v1 ••••" in lines
    assert "keys fetched: carol v1 ••••" in lines
    assert "reads what it missed: Bob has left us. Lunch at one." in lines
    assert lines.count("can read it:    alice, carol, dave") == 1
    assert "cannot read it: bob (no key)" in lines
    assert any(line.startswith("Passed in ") for line in lines)
    assert left_in(tmp_path) == []


async def test_demo_ignores_settings_of_the_environment(tmp_path: Path) -> None:
    wrong = {"SITE_ID": "a.b", "PARTITIONS": "0", "ROOM_KEY_GRACE_PERIOD": "x", "NATS_URL": "x", "NATS_USER": "joe"}
    played = await run("demo", env={"TMPDIR": str(tmp_path), **wrong})
    assert played.code == 0, played.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Starting", "The servers are up", "alice creates"])
async def test_demo_leaves_nothing_behind_when_interrupted(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    async with running("demo", env={"TMPDIR": str(tmp_path)}) as process:
        await says(process, moment)
        stopped = await ended(process, number)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    assert left_in(tmp_path) == []
    assert _processes_of(tmp_path) == []


def test_demo_fails_when_a_member_gets_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys_of(client: Client, account: str, site: str, store: KeyStore) -> RoomKeys:
        return RoomKeys(client, "nobody" if account == "carol" else account, site, store=store)

    monkeypatch.setattr(subscriber, "RoomKeys", keys_of)
    played = CliRunner().invoke(demo)
    assert played.exit_code == 1
    lines = played.stderr.splitlines()
    assert lines[0] == "room-worker: message 1: the member carol should read it, but has no key for it"
    assert len(lines) == 4


def test_demo_fails_when_the_removed_account_gets_the_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys_of(client: Client, account: str, site: str, store: KeyStore) -> RoomKeys:
        return RoomKeys(client, "alice" if account == "bob" else account, site, store=store)

    monkeypatch.setattr(subscriber, "RoomKeys", keys_of)
    played = CliRunner().invoke(demo)
    assert played.exit_code == 1
    assert "message 3: the removed bob should not read it, but did" in played.stderr


def _processes_of(folder: Path) -> list[str]:
    """Return the command lines of running processes that contain the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # the process has ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found
