"""A small HTTP server for a few fixed pages: one request per connection, no request body, no TLS.

It serves probes and scrapers, and nobody can keep them out: a connection has a limited time for its request and for
the answer, and when too many are open, the oldest is closed for the newest. A web framework has no limit on either,
and takes 10 MiB of memory.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from worker.limits import Limits

_WORDS_IN_FIRST_LINE: Final = 3


class AddressInUse(Exception):
    """An address is in use or cannot be resolved; the message names it."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its status, body and type."""

    body: bytes
    content_type: str = "application/json; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""What makes the page of a path, such as `/healthz`."""


@asynccontextmanager
async def listening(address: str, pages: Pages, limits: Limits) -> AsyncIterator[None]:
    """Serve pages on an address such as `:8081` for the length of the block; `AddressInUse` if that is impossible."""
    host, _, port = address.rpartition(":")
    connections = _Connections(pages, limits)
    try:
        server = await asyncio.start_server(
            connections.accept, host.strip("[]") or None, int(port), limit=limits.http_request_bytes
        )
    except (OSError, UnicodeError):  # UnicodeError: the text is not a valid host name
        raise AddressInUse(address) from None
    try:
        yield
    finally:
        server.close()
        await connections.close()


@dataclass(slots=True, eq=False)
class _Connections:
    """The open connections of one address, in the order in which they were opened."""

    pages: Pages
    limits: Limits
    open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        self.open[writer] = asyncio.current_task()
        while len(self.open) > self.limits.http_connections:
            self._abort(next(iter(self.open)))
        try:
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(self.limits.http_s):
                    method, path = _first_line(await reader.readuntil(b"\r\n\r\n"))
                async with asyncio.timeout(self.limits.http_s):
                    writer.write(await self._answer(method, path))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._abort(writer)

    async def _answer(self, method: str, path: str) -> bytes:
        if method not in {"GET", "HEAD"}:
            return _encode(Page(b"", status=HTTPStatus.METHOD_NOT_ALLOWED))
        if path not in self.pages:
            return _encode(Page(b"", status=HTTPStatus.NOT_FOUND))
        return _encode(await self.pages[path](), with_body=method == "GET")

    async def close(self) -> None:
        """Close all connections, whether or not their clients have read the answers."""
        tasks = [task for task in self.open.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        self.open.pop(writer, None)
        writer.transport.abort()


def _first_line(request: bytes) -> tuple[str, str]:
    """Return method and path of a request, both empty if it is not HTTP."""
    words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != _WORDS_IN_FIRST_LINE:
        return "", ""
    return words[0], words[1].partition("?")[0]


def _encode(page: Page, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + page.body * with_body


def address_in_use(error: AddressInUse) -> str:
    """Return the complaint about an address that cannot be listened on."""
    return f"HEALTH_ADDR and METRICS_ADDR must be free to listen on: {error} is not"
