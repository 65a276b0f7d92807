"""What a worker answers on `/readyz`."""

import asyncio
from typing import Any

import aiohttp

from tests.harness.site import PATIENCE


async def readiness(address: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of `/readyz`."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}/readyz") as answer:
        return answer.status, await answer.json()


async def until_ready(address: str) -> None:
    """Wait until the worker is ready."""
    await _until(address, 200, "ready")


async def until_not_ready(address: str, cause: str) -> None:
    """Wait until the worker is not ready and says so with this text."""
    await _until(address, 503, cause)


async def _until(address: str, status: int, text: str) -> None:
    seen: object = None
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    seen = await readiness(address)
                except aiohttp.ClientError as error:
                    seen = error
                else:
                    if seen[0] == status and text in str(seen[1]):
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"/readyz never answered {status} with {text!r}; in the end {seen}") from None
