"""The supervisor as a half sees it: standard input is a socket on which the supervisor asks and the half answers.

The half first sends its `Hello`. Then each line that it reads is a question, and each answer has its length before
it. When the supervisor is gone, the socket ends, and the half stops.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orjson

from worker.limits import Limits
from worker.process.protocol import METRICS, PROBLEMS, encode_answer
from worker.settings import Settings
from worker.telemetry.health import Health, latest_metrics
from worker.telemetry.logs import logger

_HELLO: Final = ("health_addr", "metrics_addr", "key_service", "log_level", "log_format")

log = logger("supervisor")


@asynccontextmanager
async def reported(stop: asyncio.Event, settings: Settings, health: Health, _limits: Limits) -> AsyncIterator[None]:
    """Answer the supervisor for the length of the block; set `stop` if it is gone."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=0))
    hello = {name: getattr(settings, name) for name in _HELLO}
    writer.write(encode_answer(orjson.dumps(hello)))
    answering = asyncio.create_task(_answer(reader, writer, health, stop))
    try:
        yield
    finally:
        answering.cancel()
        writer.transport.abort()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, health: Health, stop: asyncio.Event
) -> None:
    answers = {PROBLEMS: lambda: orjson.dumps(health.problems()), METRICS: latest_metrics}
    try:
        while question := await reader.readline():
            writer.write(encode_answer(answers[question]()))
            await writer.drain()
    except OSError:
        pass
    if not stop.is_set():
        log.error("the supervisor is gone, stopping")
        stop.set()
