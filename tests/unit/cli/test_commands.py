"""The commands and their help, wrong settings, and the settings of local servers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from worker.cli.commands import room_worker
from worker.cli.demo.sandbox import local_settings
from worker.cli.terminal.examples import TOUR, program
from worker.local.servers import MongoServer, NatsServer
from worker.settings import read_settings

WRONG = {
    "NATS_URL": "localhost:4222",
    "NATS_CREDS_FILE": "/nowhere",
    "NATS_NKEY_SEED_FILE": "/nowhere",
    "NATS_USER": "alone",
    "NATS_PASSWORD": "alone",
    "NATS_TLS_CA": "/nowhere",
    "NATS_TLS_CERT": "/nowhere",
    "NATS_TLS_KEY": "/nowhere",
    "SITE_ID": "a.b",
    "MONGO_URI": "localhost:27017",
    "MONGO_DB": "a b",
    "MONGO_USERNAME": "alone",
    "MONGO_PASSWORD_FILE": "/nowhere",
    "MONGO_DRIVER": "odbc",
    "BOOTSTRAP_STREAMS": "perhaps",
    "START_FROM": "0",
    "KEY_FANOUT_WORKERS": "0",
    "MAX_BATCH_EVENTS": "many",
    "ROOM_KEY_GRACE_PERIOD": "a day",
    "PARTITIONS": "0",
    "KEY_SERVICE": "perhaps",
    "KEY_SERVICE_QUEUE": "a b",
    "HEALTH_ADDR": "8081",
    "METRICS_ADDR": "nowhere",
    "LOG_LEVEL": "loud",
    "LOG_FORMAT": "xml",
}


def commands(group: click.Group = room_worker, path: str = "room-worker") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def test_commands_are_those_of_the_contract() -> None:
    assert sorted(path.removeprefix("room-worker ") for path, _ in commands()) == sorted(
        [
            *("run", "demo", "dev", "check", "status", "tail"),
            *(f"publish {operation}" for operation in ("create", "add", "remove", "rotate")),
            *(f"deadletters {action}" for action in ("list", "show", "replay")),
        ]
    )


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_help_of_each_command_has_an_example_that_the_command_accepts(path: str) -> None:
    words = path.split()[1:]
    shown = CliRunner().invoke(room_worker, [*words, "--help"])
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.output.splitlines()]
    examples = [line[line.index(path) :] for line in lines if path in line and not line.startswith("Usage")]
    assert examples
    for example in examples:
        command = dict(commands())[path]
        command.make_context(path, example.removeprefix(path).split())


def test_readme_shows_the_tour_that_dev_prints_and_help_shows_its_commands() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    shown = [line for line in readme.splitlines() if line.startswith(".venv/bin/room-worker ")]
    assert shown == [f".venv/bin/room-worker {words}" for words in TOUR]
    help_texts = "".join(
        CliRunner().invoke(room_worker, [*path.split()[1:], "--help"]).output for path, _ in commands()
    )
    assert [words for words in TOUR if f"room-worker {words}\n" not in help_texts] == []


@pytest.mark.parametrize(
    ("called", "path", "shown"),
    [
        ("bin/room-worker", "bin", "room-worker"),
        ("bin/room-worker", "elsewhere", "bin/room-worker"),
        ("/opt/worker/bin/room-worker", "elsewhere", "/opt/worker/bin/room-worker"),
    ],
)
def test_program_is_shown_as_it_can_be_called(
    called: str, path: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "room-worker").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / called)])
    assert program() == shown


@pytest.mark.parametrize("variable", WRONG)
def test_run_exits_with_2_and_names_the_variable_when_a_setting_is_wrong(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://localhost:4222")
    monkeypatch.setenv(variable, WRONG[variable])
    monkeypatch.setattr("worker.cli.terminal.process.os._exit", sys.exit)
    ended = CliRunner().invoke(room_worker, ["run", "--only", "worker"])
    assert ended.exit_code == 2
    assert any(line.startswith("room-worker: ") and variable in line for line in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr


def test_local_servers_are_used_without_credentials_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for variable in ("NATS_USER", "NATS_PASSWORD", "MONGO_USERNAME", "MONGO_PASSWORD"):
        monkeypatch.setenv(variable, "for other servers")
    folder = tmp_path_factory.getbasetemp()
    settings = read_settings(**local_settings(NatsServer(folder), MongoServer(folder), 0))
    assert (settings.nats_user, settings.nats_password) == (None, None)
    assert (settings.mongo_username, settings.mongo_secret) == (None, None)
