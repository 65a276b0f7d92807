"""One result of `room-worker check`, and a time limit for the checks of a server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

LIMIT_SECONDS: Final = 5.0
"""How long all checks of one server may take."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was checked (`part`), and what is wrong and how to fix it. `--json` prints the fields in this order."""

    part: str
    ok: bool = field(kw_only=True)
    text: str
    warning: bool = field(kw_only=True, default=False)


passed: Final = partial(CheckResult, ok=True)
failed: Final = partial(CheckResult, ok=False)
warned: Final = partial(CheckResult, ok=True, warning=True)
"""Nothing that keeps the worker from its work; the text says what to change."""


async def within_limit(part: str, results: AsyncIterator[CheckResult]) -> list[CheckResult]:
    """Return the results that come within the limit, and a failed one after them if time runs out."""
    collected: list[CheckResult] = []
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for result in results:
                collected.append(result)  # noqa: PERF401 - keep what came before a timeout
    except TimeoutError:
        after = f" after the check of {collected[-1].part}" if collected else ""
        advice = "check that this is the address of the server, and whether the server is overloaded"
        collected.append(failed(part, f"no answer within {LIMIT_SECONDS:g} s{after}: {advice}"))
    return collected
