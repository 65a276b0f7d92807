"""The supervisor: the first process of `room-worker run`. It runs both halves of the service, and serves HTTP."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from roomkeys.backoff import Backoff
from worker.limits import Limits
from worker.process import early
from worker.process.half import Half
from worker.process.merging import merged
from worker.process.protocol import HOPELESS, METRICS, PROBLEMS, Hello
from worker.telemetry.listener import AddressInUse, address_in_use
from worker.telemetry.pages import Source, served

_OK: Final = 0
_FAILURE: Final = 1
_WRONG_SETTING: Final = 2


def supervise() -> int:
    """Run both halves until a signal comes or a half cannot run; return the exit code."""
    return asyncio.run(_Supervisor(Limits()).run())


@dataclass(eq=False, slots=True)
class _Supervisor:
    """Both halves, by role. `end` is set to the exit code when the halves have to end."""

    limits: Limits
    halves: dict[str, Half] = field(default_factory=dict)
    end: asyncio.Future[int] = field(init=False)
    hello: asyncio.Future[Hello] = field(init=False)

    async def run(self) -> int:
        """Run both halves; return the exit code."""
        loop = asyncio.get_running_loop()
        self.end, self.hello = loop.create_future(), loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in early.STOPPING:
            loop.add_signal_handler(number, self._on_signal)
        if early.kept:
            return _OK
        keepers = [self._start_keeper("worker")]
        await _first(self.hello, self.end)
        if not self.end.done():
            if self.hello.result()["key_service"]:
                keepers.append(self._start_keeper("service"))
            await self._serve(self.hello.result())
        code = await self._stop_halves()
        for keeper in keepers:
            keeper.cancel()
        return code

    async def _serve(self, hello: Hello) -> None:
        """Serve HTTP for both halves until the end comes."""
        source = Source(self._stuck, self._missing, self._metrics)
        try:
            async with served(hello["health_addr"], hello["metrics_addr"], source, self.limits):
                await self.end
        except AddressInUse as error:
            print(f"room-worker: {address_in_use(error)}", file=sys.stderr)  # noqa: T201 - for people, not a log line
            self._begin_end(_WRONG_SETTING)

    def _on_signal(self) -> None:
        """Let the halves end; a second signal kills them."""
        if self.end.done():
            for half in self.halves.values():
                half.send(signal.SIGKILL)
        self._begin_end(_OK)

    def _begin_end(self, code: int) -> None:
        if not self.end.done():
            self.end.set_result(code)

    def _reap(self) -> None:
        """Note which halves have ended. As process 1 of a container, also take leave of orphans of other programs."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for half in self.halves.values():
                    if half.pid == ended[0] and not half.ended.done():
                        half.note_end(ended[1])

    def _start_keeper(self, role: str) -> asyncio.Task[None]:
        """Keep a half running; if that fails, because no process can be started for example, end the program."""

        def end_if_failed(keeper: asyncio.Task[None]) -> None:
            if not keeper.cancelled() and (error := keeper.exception()) is not None:
                self._log("a half of the service cannot be started", half=role, error=repr(error))
                self._begin_end(_FAILURE)

        keeper = asyncio.create_task(self._keep(role))
        keeper.add_done_callback(end_if_failed)
        return keeper

    async def _keep(self, role: str) -> None:
        """Run a half, and start it again when it ends, after a pause that grows."""
        backoff, restarts = Backoff(self.limits.restart_s, self.limits.longest_restart_s), 0
        while not self.end.done():
            since = time.monotonic()
            half = self.halves[role] = await Half.start(role, restarts)
            await _first(half.hello, half.ended)
            if half.hello.done() and not self.hello.done():
                self.hello.set_result(half.hello.result())
            code = await half.ended
            if code in {_WRONG_SETTING, HOPELESS}:  # it has said why
                self._begin_end(_WRONG_SETTING if code == _WRONG_SETTING else _FAILURE)
            if self.end.done():
                return
            if time.monotonic() - since > self.limits.longest_restart_s:
                backoff.reset()
            pause, restarts = backoff.next(), restarts + 1
            self._log(
                "a half of the service ended, starting it again", half=role, exit=code, in_seconds=round(pause, 1)
            )
            await asyncio.sleep(pause)

    async def _stop_halves(self) -> int:
        """Stop both halves, and kill one that takes too long; return the exit code of the program."""
        ends = {half.ended for half in self.halves.values()}
        for half in self.halves.values():
            half.send(signal.SIGTERM)
        if ends:
            await asyncio.wait(ends, timeout=self.limits.shutdown_s + self.limits.kill_after_s)
        for role, half in self.halves.items():
            if not half.ended.done():
                half.send(signal.SIGKILL)
                self._log("a half of the service did not stop in time and was killed", half=role)
        if ends:
            await asyncio.wait(ends)
        stopped = all(end.result() in {_OK, -signal.SIGTERM} for end in ends)
        return self.end.result() or (_OK if stopped else _FAILURE)

    def _log(self, event: str, **fields: Any) -> None:
        from worker.telemetry.logs import configure, logger  # noqa: PLC0415 - rarely needed, and large

        level, form = ("info", "json") if not self.hello.done() else _log_settings(self.hello.result())
        configure(level, form)
        logger("supervisor").error(event, **fields)

    async def _ask(self, question: bytes) -> dict[str, bytes | None]:
        """Return the answer of each half that has said hello; None where it does not answer in time."""
        asked = {role: half for role, half in self.halves.items() if half.is_up}
        answers = await asyncio.gather(*(half.ask(question) for half in asked.values()))
        return dict(zip(asked, answers, strict=True))

    async def _stuck(self) -> Mapping[str, str]:
        answers = await self._ask(PROBLEMS)
        return {
            role: "does not answer" for role, answer in answers.items() if answer is None and self.halves[role].is_up
        }

    async def _missing(self) -> Mapping[str, str]:
        missing: dict[str, str] = {}
        answers = await self._ask(PROBLEMS)
        for role, half in self.halves.items():
            if (answer := answers.get(role)) is not None:
                missing = json.loads(answer) | missing
            elif half.ended.done():
                missing[role] = "ended, starting again"
            else:
                missing[role] = "does not answer" if half.hello.done() else "starting"
        return missing

    async def _metrics(self) -> bytes:
        answers = await self._ask(METRICS)
        return merged(answer for answer in answers.values() if answer is not None)


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Wait for the first of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _log_settings(hello: Hello) -> tuple[str, str]:
    return hello["log_level"], hello["log_format"]
