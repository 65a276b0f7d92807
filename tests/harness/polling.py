"""Waiting in this process until something is so."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 30.0
LOOK_SECONDS = 0.002


async def until(
    look: Callable[[], object], seen: Callable[[], object] = lambda: "nothing to tell", patience: float = PATIENCE
) -> None:
    """Look again and again until there is something; a failure tells what was seen in the end."""
    try:
        async with asyncio.timeout(patience):
            while True:
                if look():
                    return
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"it never came; seen in the end: {seen()}") from None


async def until_equal(read: Callable[[], Awaitable[object]], wanted: object, patience: float = PATIENCE) -> None:
    """Read a server's value again and again until it is the wanted one; a failure tells what it was in the end."""
    value: object = None
    try:
        async with asyncio.timeout(patience):
            while (value := await read()) != wanted:  # noqa: ASYNC110 - a server signals no change
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"it never became {wanted!r}; it was {value!r} in the end") from None


async def until_answered(answers: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Ask a server again and again until it answers."""
    async with asyncio.timeout(patience):
        while not await answers():  # noqa: ASYNC110 - a server sends no event when it comes up
            await asyncio.sleep(0.05)
