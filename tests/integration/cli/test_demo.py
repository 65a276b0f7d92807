"""`room-worker demo`: tells its story, checks it, and leaves nothing behind."""

import signal
from pathlib import Path

import pytest
from nats.aio.client import Client

from roomkeys.client import RoomKeys
from tests.harness.processes import ended, left_in, run, running, says
from worker.cli.demo import command
from worker.cli.demo.subscriber import Subscriber


async def test_the_demo_passes_and_tells_its_story_without_a_terminal(tmp_path: Path) -> None:
    played = await run("demo", env={"TMPDIR": str(tmp_path)})
    assert played.code == 0, played.err
    assert played.err == ""
    assert "\x1b" not in played.out
    lines = [line.strip() for line in played.out.splitlines()]
    assert "keys sent: alice v0 ••••, bob v0 ••••, carol v0 ••••" in lines
    assert "keys sent: dave v0 ••••" in lines
    assert "keys sent: alice v1 ••••, dave v1 ••••" in lines
    assert "keys asked for: carol v1 ••••" in lines
    assert "reads on: Bob has left us. Lunch at one." in lines
    assert lines.count("can read it: alice, carol, dave") == 1
    assert "cannot:      bob (no key for it)" in lines
    assert any(line.startswith("As it must be") for line in lines)
    assert left_in(tmp_path) == []


async def test_the_demo_does_not_care_for_the_settings_of_the_environment(tmp_path: Path) -> None:
    wrong = {
        "SITE_ID": "a.b",
        "PARTITIONS": "0",
        "ROOM_KEY_GRACE_PERIOD": "x",
        "NATS_URL": "x",
        "NATS_USER": "joe",
    }
    played = await run("demo", env={"TMPDIR": str(tmp_path), **wrong})
    assert played.code == 0, played.err


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Starting", "They are up", "alice creates"])
async def test_the_demo_leaves_nothing_behind_when_it_is_interrupted(
    tmp_path: Path, moment: str, told: signal.Signals
) -> None:
    async with running("demo", env={"TMPDIR": str(tmp_path)}) as process:
        await says(process, moment)
        stopped = await ended(process, told)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    assert left_in(tmp_path) == []
    assert _processes_of(tmp_path) == []


async def test_the_demo_fails_when_somebody_gets_no_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deaf(Subscriber):
        def _keys_of(self, client: Client, account: str) -> RoomKeys:
            return super()._keys_of(client, "nobody" if account == "carol" else account)

    monkeypatch.setattr(command, "Subscriber", Deaf)
    assert await command._demo() == 1
    complaints = capsys.readouterr().err.splitlines()
    assert complaints[0] == (
        "room-worker: message 1: expected that carol, a member, reads it; carol could not read it,"
        " having no key for it"
    )
    assert len(complaints) == 4


async def test_the_demo_fails_when_the_removed_one_gets_the_new_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Eavesdropper(Subscriber):
        def _keys_of(self, client: Client, account: str) -> RoomKeys:
            return super()._keys_of(client, "alice" if account == "bob" else account)

    monkeypatch.setattr(command, "Subscriber", Eavesdropper)
    assert await command._demo() == 1
    assert "message 3: expected that bob, who was removed, cannot read it; bob read it" in capsys.readouterr().err


def _processes_of(folder: Path) -> list[str]:
    """Return the command lines that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found
