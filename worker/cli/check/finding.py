"""What `room-worker check` finds: one line about one part."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

LIMIT_SECONDS: Final = 5.0
"""How long the checks of one server may take together."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that is right, or what is wrong with it and how to mend it."""

    part: str
    ok: bool
    text: str


async def bounded(part: str, findings: AsyncIterator[CheckResult]) -> list[CheckResult]:
    """Return what was found within the limit."""
    found: list[CheckResult] = []
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for finding in findings:
                found.append(finding)  # noqa: PERF401 - what came before a timeout is kept
    except TimeoutError:
        found.append(
            CheckResult(part, ok=False, text=f"no answer within {LIMIT_SECONDS:g} s: is the server overloaded?")
        )
    return found
