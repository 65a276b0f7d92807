"""One result of `room-worker check`, and a time limit for the checks of a server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

LIMIT_SECONDS: Final = 5.0
"""How long all checks of one server may take."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `part` is what was checked. The text says what is wrong and how to fix it.

    The names of the fields are those of the output with `--json`.
    """

    part: str
    ok: bool
    text: str


def passed(part: str, text: str) -> CheckResult:
    """Return the result of a check that succeeded."""
    return CheckResult(part, ok=True, text=text)


def failed(part: str, text: str) -> CheckResult:
    """Return the result of a check that failed."""
    return CheckResult(part, ok=False, text=text)


async def within_limit(part: str, results: AsyncIterator[CheckResult]) -> list[CheckResult]:
    """Return the results that come within the limit, and a failed one after them if time runs out."""
    collected: list[CheckResult] = []
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for result in results:
                collected.append(result)  # noqa: PERF401 - keep what came before a timeout
    except TimeoutError:
        collected.append(failed(part, f"no answer within {LIMIT_SECONDS:g} s: check whether the server is overloaded"))
    return collected
