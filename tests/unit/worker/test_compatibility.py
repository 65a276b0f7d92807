"""What the worker requires of the installed nats-py, whose private parts it overrides."""

import ast
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.protocol import parser

from worker.broker import nats_client as steady
from worker.broker.compatibility import ATTRIBUTES, METHODS, REQUIRED, SUBSCRIPTION, IncompatibleClient, require_names
from worker.broker.nats_client import SteadyClient

PROJECT = Path(__file__).parents[3]
OURS = {
    "_proof_inbox", "_denials", "_count_at_pong", "_count", "_gates", "_skip", "_ask_or_skip", "_as_sent",
}  # fmt: skip
"""Private names of `worker/broker/nats_client.py` that are not nats-py's."""


class WithoutPong(Client):
    @property
    def _process_pong(self) -> Any:
        raise AttributeError


class WithSyncPing(Client):
    def _send_ping(self, future: Any = None) -> Any:
        raise NotImplementedError


class WithOtherCommand(Client):
    async def _send_command(self, cmd: bytes, priority: bool = False, urgent: bool = False) -> None:
        raise NotImplementedError


class WithoutBuffer(Client):
    def __init__(self) -> None:
        super().__init__()
        del self._pending


def test_the_installed_nats_py_has_every_required_name() -> None:
    require_names()


@pytest.mark.parametrize(
    ("client", "lacks"),
    [
        (WithoutPong, "async _process_pong(self)"),
        (WithSyncPing, "async _send_ping(self, future)"),
        (WithOtherCommand, "async _send_command(self, cmd, priority)"),
        (WithoutBuffer, "_pending"),
    ],
)
def test_a_missing_or_changed_name_is_reported_with_both_versions(client: type[Client], lacks: str) -> None:
    with pytest.raises(IncompatibleClient) as raised:
        require_names(client)
    assert str(raised.value) == (
        f"nats-py {version('nats-py')} is installed, but room-worker needs {REQUIRED}: its client lacks {lacks}"
    )


def test_every_missing_name_is_reported_before_a_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Client, "_process_headers")
    monkeypatch.delattr(Client, "_process_err")
    monkeypatch.delattr(parser, "MSG_RE")
    with pytest.raises(IncompatibleClient, match=r"_process_err\(self, err_msg\), async _process_headers\(.*, MSG_RE$"):
        SteadyClient()


def test_every_private_name_that_the_client_uses_is_required() -> None:
    tree = ast.parse(inspect.getsource(steady))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    overridden = {name for name in vars(SteadyClient) if callable(getattr(SteadyClient, name))}
    private = {name for name in used | overridden if name.startswith("_") and not name.startswith("__")}
    methods = {shape.removeprefix("async ").partition("(")[0] for shape in METHODS}
    assert private - OURS == methods | {name for name in (*ATTRIBUTES, *SUBSCRIPTION) if name.startswith("_")}


def test_the_required_version_is_the_one_of_the_packages() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert f"nats-py[nkeys]{REQUIRED}" in project["dependencies"]
    assert "nats-py==2.16." in (PROJECT / "requirements" / "run.txt").read_text()
