"""A TCP proxy that records what a client sends and can withhold it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Filter = Callable[[bytes], bytes]


@dataclass
class Proxy:
    """Stands before one server; `filter` decides which of the client's bytes pass, `sent` has all of them."""

    host: str
    port: int
    url: str = ""
    sent: bytearray = field(default_factory=bytearray)
    filter: Filter | None = None
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    accepting: bool = True

    def cut(self) -> None:
        """Break every connection at once."""
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        self.connections += [writer, server_writer]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(reader, server_writer, from_client=True))
            tasks.create_task(self._pass_on(server_reader, writer, from_client=False))

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                passed = data
                if from_client:
                    self.sent += data
                    passed = data if self.filter is None else self.filter(data)
                writer.write(passed)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Stand before the server of a URL such as nats://127.0.0.1:4222."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 0)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"{parts.scheme}://127.0.0.1:{port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
