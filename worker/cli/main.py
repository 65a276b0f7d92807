"""The command `room-worker`. (docs/contract.md, section 8)"""

import sys
from io import TextIOWrapper

import click

from worker.cli.check.command import check
from worker.cli.deadletters.command import deadletters
from worker.cli.demo.command import demo
from worker.cli.demo.dev import dev
from worker.cli.publish import publish
from worker.cli.run import run
from worker.cli.status import status
from worker.cli.tail import tail

COMMANDS = (run, demo, dev, check, status, publish, tail, deadletters)


@click.group(commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="room-worker")
def room_worker() -> None:
    """Distribute room keys: every member of a chat room has a new key before it is used.

    All settings come from the environment: SITE_ID, NATS_URL, MONGO_URI and others. To see everything at work on
    this machine, with nothing installed beforehand, run: room-worker demo
    """


def main() -> None:
    """Run the command that the command line names, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # print a substitute for a character that the terminal lacks
            stream.reconfigure(errors="replace", line_buffering=True)
    room_worker(prog_name="room-worker")
