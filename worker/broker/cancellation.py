"""Cancellation that is not lost: nats-py swallows a cancellation that arrives during a flush."""

import asyncio
from typing import Any


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task, again if need be, until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)


def raise_if_cancelled() -> None:
    """Raise the cancellation that nats-py has swallowed, if there was one."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
