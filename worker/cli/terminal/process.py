"""The life of a command's process: how it is stopped, and its exit code.

0    done, or stopped by Ctrl-C or SIGTERM where that is how the command ends
1    something failed, or something is wrong
2    a setting or the command line is wrong
130  interrupted before it was done
141  nobody reads the output any more, as in `room-worker status | head -1`

An error becomes one line on standard error that starts with `room-worker:`.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from traceback import format_tb
from typing import Any, Concatenate, Final, NoReturn, ParamSpec

import click

from roomkeys.errors import TransientError
from worker.app import BrokerClosed
from worker.broker.compatibility import IncompatibleClient
from worker.cli.terminal.output import OutputClosed, safe
from worker.local.servers import ServerUnavailable
from worker.process import early
from worker.process.shutdown import Unfinished
from worker.settings import WrongSetting
from worker.telemetry.logs import configure, where

try:
    from uvloop import new_event_loop
except ImportError:  # uvloop does not support Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

OK: Final = 0
FAILURE: Final = 1
WRONG_SETTING: Final = 2
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141

_P = ParamSpec("_P")
_Stoppable = Callable[Concatenate[asyncio.Event, _P], Coroutine[Any, Any, int | None]]


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message is one line for people."""


_WRITTEN_FOR_PEOPLE: Final = (
    *(WrongSetting, CommandFailed, BrokerClosed, IncompatibleClient, ServerUnavailable, Unfinished, TransientError),
)
"""Errors of this project whose text says what is wrong and holds no secret."""


def until_stopped(main: _Stoppable[_P], *, exit_at_once: bool = False) -> Callable[_P, NoReturn]:
    """Make a function that runs `main` with an event that Ctrl-C or SIGTERM sets (a second one kills), then exits.

    The exit code is what `main` returns, or 0. With `exit_at_once`, nothing waits for threads that still run.
    """

    async def stoppable(*args: _P.args, **kwargs: _P.kwargs) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            for number in early.STOPPING:
                loop.remove_signal_handler(number)
            stop.set()

        for number in early.STOPPING:
            loop.add_signal_handler(number, on_signal)
        if early.kept:
            on_signal()
        return await main(stop, *args, **kwargs) or OK

    @wraps(main)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> NoReturn:
        _run(stoppable(*args, **kwargs), exit_at_once=exit_at_once)

    return run


def to_end(main: Callable[_P, Coroutine[Any, Any, int]]) -> Callable[_P, NoReturn]:
    """Make a function that runs `main` and exits with the code that it returns; Ctrl-C and SIGTERM cancel it."""

    @wraps(main)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> NoReturn:
        configure("error", "console")
        _run(_cancellable(main(*args, **kwargs)))

    return run


async def _cancellable(main: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(main)
    for number in early.STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if early.kept:
        task.cancel()
    try:
        code = await task
    except asyncio.CancelledError:
        return INTERRUPTED
    return INTERRUPTED if task.cancelling() else code


def _run(main: Coroutine[Any, Any, int], *, exit_at_once: bool = False) -> NoReturn:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = _code(runner, main)
        if exit_at_once:
            sys.stdout.flush()
            sys.stderr.flush()
            # The runner, and then the interpreter, would wait for the threads of Motor and of name look-ups, and these
            # for a server that hangs.
            os._exit(code)
    sys.exit(code)


def _code(runner: asyncio.Runner, main: Coroutine[Any, Any, int]) -> int:
    try:
        return runner.run(main)
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.UsageError:  # click prints it, with the usage of the command
        raise
    except Exception as error:  # noqa: BLE001 - the end of the program: every error becomes a line and a code
        if any(isinstance(cause, OutputClosed) for cause in _causes(error)):
            # Python writes what is left in its buffer when it exits, and would report that it cannot.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OUTPUT_CLOSED
        lines, code = error_lines(error)
        for line in lines:
            click.echo(f"room-worker: {line}", err=True)
        return code


def error_lines(error: BaseException) -> tuple[list[str], int]:
    """Return what to print for an error, or for each error in a group, and the exit code.

    If a setting is wrong, only that is printed: the other errors follow from it. The text of an error that does
    not come from this project is never printed, because it may quote the value that caused the error.
    """
    causes = _causes(error)
    wrong = [cause for cause in causes if isinstance(cause, WrongSetting)]
    lines = [line for cause in wrong or causes for line in _lines(cause)]
    return list(dict.fromkeys(lines)), WRONG_SETTING if wrong else FAILURE


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, _WRITTEN_FOR_PEOPLE) and str(error):
        return [safe(line) for line in str(error).splitlines()]
    if os.environ.get("LOG_LEVEL", "").lower() == "debug":
        frames = "".join(format_tb(error.__traceback__)).rstrip()
        return [f"unexpected error: {where(error)}\n{frames}"]
    return [f"unexpected error: {where(error)} (set LOG_LEVEL=debug for a traceback)"]
