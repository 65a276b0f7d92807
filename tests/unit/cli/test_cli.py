"""The command's surface, without servers."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from roomkeys.errors import TransientError
from worker.app import BrokerClosed
from worker.cli.check.mongo import _replica_set
from worker.cli.demo.sandbox import local_settings
from worker.cli.main import room_worker
from worker.cli.terminal.output import safe, show, show_table
from worker.cli.terminal.process import Failed, complaints
from worker.local.servers import MongoServer, NatsServer
from worker.settings import Settings, WrongSetting, read_settings
from worker.telemetry.logs import server_of

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
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_the_commands_are_those_of_the_contract() -> None:
    assert sorted(path.removeprefix("room-worker ") for path, _ in commands()) == sorted(
        [
            *("run", "demo", "dev", "check", "status", "tail"),
            *(f"publish {operation}" for operation in ("create", "add", "remove", "rotate")),
            *(f"deadletters {what}" for what in ("list", "show", "replay")),
        ]
    )


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_the_help_of_every_command_shows_an_example_that_the_command_accepts(path: str) -> None:
    words = path.split()[1:]
    shown = CliRunner().invoke(room_worker, [*words, "--help"])
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.output.splitlines()]
    examples = [line[line.index(path) :] for line in lines if path in line and not line.startswith("Usage")]
    assert examples
    for example in examples:
        command = dict(commands())[path]
        command.make_context(path, example.removeprefix(path).split())


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_setting_ends_the_service_with_2_and_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://localhost:4222")
    monkeypatch.setenv(variable, WRONG[variable])
    ended = CliRunner().invoke(room_worker, ["run"])
    assert ended.exit_code == 2
    assert any(line.startswith("room-worker: ") and variable in line for line in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "uri", ["mongodb://", "mongodb://joe:pa/ss@host", "mongodb://host:seven", "mongodb://host:1/?tls"]
)
def test_a_database_uri_that_the_driver_cannot_read_is_a_wrong_setting_and_not_quoted(uri: str) -> None:
    with pytest.raises(WrongSetting, match="MONGO_URI must be") as wrong:
        read_settings(nats_url="nats://localhost:4222", mongo_uri=uri)
    assert "ss@host" not in str(wrong.value)


def test_every_wrong_setting_of_a_group_is_a_line_and_hides_what_followed_from_it() -> None:
    group = ExceptionGroup("", [ExceptionGroup("", [WrongSetting("A must be\nB must be")]), ValueError("noise")])
    assert complaints(group) == (["A must be", "B must be"], 2)


def test_what_is_this_projects_own_speaks_for_itself() -> None:
    group = ExceptionGroup("", [BrokerClosed("closed for good"), Failed("no such letter"), TransientError("away")])
    assert complaints(group) == (["closed for good", "no such letter", "away"], 1)


def test_the_text_of_a_strange_error_is_not_shown() -> None:
    lines, code = complaints(RuntimeError("key material"))
    assert code == 1
    assert "RuntimeError" in lines[0]
    assert "material" not in lines[0]


def test_with_the_debug_level_a_strange_error_shows_its_place_and_still_not_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    try:
        raise RuntimeError(f"{'secret'} text")  # noqa: TRY301 - it needs a traceback
    except RuntimeError as error:
        lines, _ = complaints(error)
    assert "test_cli.py" in lines[0]
    assert "secret text" not in lines[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("\x1b[2Jx", "\\x1b[2Jx"), ("a\rb", "a\\rb"), ("a\u202eb", "a\\u202eb"), (7, "7")],
)
def test_what_could_move_the_cursor_is_spelled_out(text: object, shown: str) -> None:
    assert safe(text) == shown


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert safe("a\nb\x07", lines=True) == "a\nb\\x07"


def test_without_a_terminal_nothing_is_coloured_cut_or_taken_for_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(("[bold]" + "x" * 300, "red"), " :smile:")
    show_table(["one", "two"], [["a", "[i]" + "y" * 300]])
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "[bold]" + "x" * 300 + " :smile:",
        "one  two" + " " * 300,
        "a    [i]" + "y" * 300,
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://localhost:4222", "nats://localhost:4222"),
        ("nats://joe:secret@host:4222", "nats://host:4222"),
        ("mongodb://joe:se?cr/et@a:1,b:2/db?replicaSet=rs0", "mongodb://a:1,b:2"),
        ("mongodb://a/?replicaSet=rs0", "mongodb://a"),
    ],
)
def test_a_server_is_named_without_its_user(url: str, shown: str) -> None:
    assert server_of(url) == shown


@pytest.mark.parametrize(
    ("hello", "ok", "text"),
    [
        ({"setName": "rs0", "isWritablePrimary": True, "me": "a:1"}, True, "rs0, primary a:1"),
        ({"msg": "isdbgrid", "isWritablePrimary": True}, True, "a sharded cluster"),
        ({"isWritablePrimary": True}, False, "--replSet rs0"),
        ({"setName": "rs0", "isWritablePrimary": False, "me": "a:1"}, False, "replicaSet="),
    ],
)
def test_a_database_without_transactions_or_a_primary_is_amiss(
    hello: dict[str, object], ok: bool, text: str
) -> None:
    found = _replica_set(hello)
    assert (found.ok, text in found.text) == (ok, True)


def test_local_servers_are_used_without_the_credentials_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for variable in ("NATS_USER", "NATS_PASSWORD", "MONGO_USERNAME", "MONGO_PASSWORD"):
        monkeypatch.setenv(variable, "of another place")
    folder = tmp_path_factory.getbasetemp()
    settings = read_settings(**local_settings(NatsServer(folder), MongoServer(folder), 0))
    assert (settings.nats_user, settings.nats_password) == (None, None)
    assert (settings.mongo_username, settings.mongo_secret) == (None, None)


def test_without_any_variable_the_settings_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    settings = read_settings()
    assert settings.nats_url == ["nats://localhost:4222"]
    assert settings.mongo_uri.get_secret_value() == "mongodb://localhost:27017/?replicaSet=rs0"
    assert (settings.site_id, settings.partitions, settings.grace_ms) == ("site-local", 8, 86_400_000)
