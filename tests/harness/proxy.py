"""A TCP proxy that records what a client sends; a fault may change, hold or break what passes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(eq=False)
class Connection:
    """One client's connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def cut(self) -> None:
        """Break it at once, on both sides."""
        self.client.transport.abort()
        self.server.transport.abort()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes on their way."""

    connection: Connection
    from_client: bool
    data: bytes


Fault = Callable[[Chunk], Awaitable[bytes]]
"""Returns which bytes pass in a chunk's place, when it likes, or raises `Cut`."""


class Cut(Exception):
    """Break this connection once `passed` has been passed on."""

    def __init__(self, passed: bytes = b"") -> None:
        super().__init__()
        self.passed = passed


@dataclass
class Proxy:
    """Stands before one server; `fault` decides what passes, `sent` has all that clients sent."""

    host: str
    port: int
    url: str = ""
    sent: bytearray = field(default_factory=bytearray)
    fault: Fault | None = None
    connections: list[Connection] = field(default_factory=list)
    accepting: bool = True

    def cut(self) -> None:
        """Break every connection at once."""
        for connection in self.connections:
            connection.cut()
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
        connection = Connection(writer, server_writer)
        self.connections.append(connection)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(reader, server_writer, connection))
            tasks.create_task(self._pass_on(server_reader, writer, connection))

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection
    ) -> None:
        from_client = writer is connection.server
        with suppress(OSError):
            try:
                while data := await reader.read(65_536):
                    if from_client:
                        self.sent += data
                    chunk = Chunk(connection, from_client, data)
                    writer.write(data if self.fault is None else await self.fault(chunk))
                    await writer.drain()
            except Cut as cut:
                writer.write(cut.passed)
                connection.cut()
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
