"""The command `room-worker`. (docs/contract.md, section 8)"""

from importlib import import_module
from typing import Final

import click

_MODULES: Final = {
    "run": "worker.cli.run",
    "demo": "worker.cli.demo.command",
    "dev": "worker.cli.demo.dev",
    "check": "worker.cli.check.command",
    "status": "worker.cli.status.command",
    "publish": "worker.cli.publish",
    "tail": "worker.cli.tail",
    "deadletters": "worker.cli.deadletters.command",
}
"""Where the function of a command's name is. A module is imported when its command runs: most of them are large."""


class _Commands(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(_MODULES[name]), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="room-worker")
def room_worker() -> None:
    """Distribute room keys: every member of a chat room has a new key before it is used.

    All settings come from the environment: SITE_ID, NATS_URL, MONGO_URI and others. To see everything at work on
    this machine, with nothing installed beforehand, run: room-worker demo
    """
