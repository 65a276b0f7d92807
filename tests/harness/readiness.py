"""What `/readyz` of a worker says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.harness.polling import until_answered
from tests.harness.site import Rig
from worker.local.ports import HOST, free_port


class Readiness:
    """The last answer of `/readyz` at an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.status = 0
        self.body: dict[str, Any] = {}

    async def until_waiting_for(self, component: str, *words: str) -> str:
        """Wait until the worker is not ready because of a component, with these words in the cause; return it."""
        await until_answered(lambda: self._says(503, component, words))
        return str(self.body["for"][component])

    async def until_ready(self) -> None:
        """Wait until the worker is ready."""
        await until_answered(lambda: self._says(200, "", ()))

    async def _says(self, status: int, component: str, words: tuple[str, ...]) -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://{self.address}/readyz") as answer:
                self.status, self.body = answer.status, orjson.loads(await answer.read())
        except aiohttp.ClientError:
            return False
        cause = self.body.get("for", {}).get(component, "")
        return self.status == status and all(word in cause for word in words)


@asynccontextmanager
async def starting_worker(rig: Rig, **changes: Any) -> AsyncIterator[Readiness]:
    """Run a worker in this process and yield its readiness."""
    address = f"{HOST}:{free_port()}"
    async with rig.worker(health_addr=address, **changes):
        yield Readiness(address)
