"""The program `room-worker`: prepares the process, then imports and runs the command."""

import sys
from io import TextIOWrapper

from worker.process import early


def main() -> None:
    """Run the command that the command line names, and exit."""
    early.keep_signals()
    early.open_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # print a substitute for a character that the terminal lacks
            stream.reconfigure(errors="replace", line_buffering=True)
    from worker.cli.commands import room_worker  # noqa: PLC0415 - see worker/process/early.py

    room_worker(prog_name="room-worker")
