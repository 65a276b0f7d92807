"""The end of a task that must end."""

import asyncio
from typing import Any


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended: nats-py swallows a cancellation that meets it in a flush."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
