"""The pages of a running program: `/healthz`, `/readyz`, `/metrics`."""

import asyncio

import aiohttp

from tests.harness.polling import PATIENCE


async def page(address: str, path: str) -> tuple[int, str]:
    """Return the status and the text of a page; the status is 0 while nobody listens."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}{path}") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientError:
        return 0, ""


async def until_status(address: str, path: str, status: int) -> str:
    """Wait until a page has a status, and return its text."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await page(address, path))[0] != status:  # noqa: ASYNC110 - another process sends no event
            await asyncio.sleep(0.05)
    return answer[1]
