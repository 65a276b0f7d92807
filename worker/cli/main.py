"""The command `room-worker`. (contract.md, section 8)"""

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
    """Turn a chat room's membership events into room keys that every survivor holds before they are used.

    Settings come from the environment: SITE_ID, NATS_URL, MONGO_URI and so on. To see it all at work on this
    machine, with nothing installed beforehand: room-worker demo
    """


def main() -> None:
    """Run the command of the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character gets another one, not a crash
            stream.reconfigure(errors="replace", line_buffering=True)
    room_worker(prog_name="room-worker")
