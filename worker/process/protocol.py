"""The words of supervisor and half: questions are lines, and each answer has its length in four bytes before it."""

import asyncio
from typing import Final, TypedDict

PROBLEMS: Final = b"problems\n"
"""Asks what the half waits for: JSON, texts for people by component."""

METRICS: Final = b"metrics\n"
"""Asks for the metrics in the text format of Prometheus."""

HOPELESS: Final = 3
"""The exit code of a half that would fail again in the same way, after it has said why."""

_LENGTH: Final = 4


class Hello(TypedDict):
    """What a half says first: those of its settings that the supervisor needs."""

    health_addr: str
    metrics_addr: str
    key_service: bool
    log_level: str
    log_format: str


def encode_answer(body: bytes) -> bytes:
    """Return an answer as it is sent."""
    return len(body).to_bytes(_LENGTH, "big") + body


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Return the next answer; `IncompleteReadError` if the half is gone."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(_LENGTH), "big"))
