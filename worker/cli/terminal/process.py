"""How a command ends: with its work done, told to, or with clear lines on standard error and a code.

0    done, or told to stop by Ctrl-C or SIGTERM where that is how the command ends
1    something failed or is amiss
2    a setting is wrong, or the command line is
130  interrupted before it was done
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from traceback import format_tb
from typing import Any, Final, NoReturn

import click

from roomkeys.errors import TransientError, Unexpected
from worker.app import BrokerClosed
from worker.broker.producer import NotAnswered, NotStored
from worker.cli.terminal.output import safe
from worker.local.servers import ServerUnavailable
from worker.settings import WrongSetting
from worker.telemetry.logs import configure, where

try:
    from uvloop import new_event_loop
except ImportError:  # there is none for Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

OK: Final = 0
AMISS: Final = 1
WRONG_SETTING: Final = 2
INTERRUPTED: Final = 130

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Failed(Exception):
    """A command that cannot do what it was asked; the message is one clear line for people."""


# What says by itself, in words for people, what is wrong.
_SPEAKING: Final = (
    WrongSetting,
    Failed,
    BrokerClosed,
    ServerUnavailable,
    NotStored,
    NotAnswered,
    TransientError,
    Unexpected,
)


def serve(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run until it is done or told to stop by the event, which Ctrl-C and SIGTERM set; then exit.

    A second signal does not wait for a clean end.
    """

    async def watched() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def told() -> None:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
            stop.set()

        for number in _SIGNALS:
            loop.add_signal_handler(number, told)
        await main(stop)
        return OK

    _run(watched())


def finish(main: Coroutine[Any, Any, int]) -> NoReturn:
    """Run to the end and exit with the code that it returns; Ctrl-C and SIGTERM cancel it."""

    async def cancellable() -> int:
        task = asyncio.ensure_future(main)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            code = await task
        except asyncio.CancelledError:
            return INTERRUPTED
        return INTERRUPTED if task.cancelling() else code

    configure("error", "console")
    _run(cancellable())


def give_way() -> None:
    """End here what `finish` runs, if it was cancelled: nats-py swallows the cancellation of a flush."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _run(main: Coroutine[Any, Any, int]) -> NoReturn:
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            code = runner.run(main)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the end of the program: whatever it is becomes a line and a code
        lines, code = complaints(error)
        for line in lines:
            click.echo(f"room-worker: {line}", err=True)
    sys.exit(code)


def complaints(error: BaseException) -> tuple[list[str], int]:
    """Return what to say of an error, or of each one in a group, and the exit code.

    The text of an error that is not this project's own is never shown: it may quote what it failed on.
    """
    causes = list(_causes(error))
    wrong = [cause for cause in causes if isinstance(cause, WrongSetting)]
    lines = [line for cause in wrong or causes for line in _lines(cause)]
    return list(dict.fromkeys(lines)), WRONG_SETTING if wrong else AMISS


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, _SPEAKING) and str(error):
        return [safe(line) for line in str(error).splitlines()]
    if os.environ.get("LOG_LEVEL", "").lower() == "debug":
        frames = "".join(format_tb(error.__traceback__)).rstrip()
        return [f"ended by {where(error)}, from\n{frames}"]
    return [f"ended by {where(error)}; LOG_LEVEL=debug shows from where"]
