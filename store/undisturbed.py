"""What must not be left half done: a session is in use by one at a time, and cancelling stops no thread."""

import asyncio
from typing import Any


async def done(work: asyncio.Future[Any]) -> None:
    """Wait until the work is done, however it ends; a cancellation meanwhile counts once it is."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.cancelled():
        work.exception()  # asyncio tells the log of one that nobody has looked at, and that may quote a key
    if cancelled is not None:
        raise cancelled
