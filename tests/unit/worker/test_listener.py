"""The HTTP server of health and metrics: it answers, and no client can keep others out."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from prometheus_client import CONTENT_TYPE_LATEST

from tests.harness.polling import until
from worker.limits import Limits
from worker.local.ports import HOST, free_port
from worker.telemetry.listener import AddressInUse, Page, listening
from worker.telemetry.pages import PROMETHEUS, Source, served

PATIENT = Limits()
HASTY = Limits(http_s=0.2)
LARGE = b"x" * 16 * 1024 * 1024
"""More than the buffers of a socket take."""


@asynccontextmanager
async def listener(limits: Limits = PATIENT) -> AsyncIterator[int]:
    """Serve a short and a large page, and yield the port."""

    async def short() -> Page:
        return Page(b"short", "text/plain")

    async def large() -> Page:
        return Page(LARGE, "text/plain")

    async with listening(f"{HOST}:{(port := free_port())}", {"/short": short, "/large": large}, limits):
        yield port


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[socket.socket]:
    """Connect a client that the test controls itself."""
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (HOST, port))
        yield client


def is_closed(client: socket.socket) -> bool:
    """Tell whether the server has closed the connection, without reading from it."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))


async def send(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    return reader, writer


async def get(port: int, request: str = "GET /short HTTP/1.1\r\n\r\n") -> tuple[str, bytes]:
    """Return status line and body; the server closes the connection."""
    reader, writer = await send(port, request.encode())
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.decode().partition("\r\n")[0], body


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("GET /short HTTP/1.1", ("HTTP/1.1 200 OK", b"short")),
        ("GET /short?x=1 HTTP/1.0", ("HTTP/1.1 200 OK", b"short")),
        ("HEAD /short HTTP/1.1", ("HTTP/1.1 200 OK", b"")),
        ("GET /other HTTP/1.1", ("HTTP/1.1 404 Not Found", b"")),
        ("POST /short HTTP/1.1", ("HTTP/1.1 405 Method Not Allowed", b"")),
        ("\xff", ("HTTP/1.1 405 Method Not Allowed", b"")),
    ],
)
async def test_request_is_answered_and_the_connection_closed(request_line: str, answer: tuple[str, bytes]) -> None:
    async with listener() as port:
        assert await get(port, f"{request_line}\r\nHost: localhost\r\n\r\n") == answer


async def test_large_page_arrives_whole() -> None:
    async with listener() as port:
        assert await get(port, "GET /large HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", LARGE)


@pytest.mark.parametrize("sent", [b"", b"GET /short HTTP/1.1\r\nHost: local"], ids=["idle", "half-sent"])
async def test_many_connections_that_ask_nothing_keep_nobody_out(sent: bytes) -> None:
    async with listener() as port, AsyncExitStack() as stack:
        for _ in range(4 * PATIENT.http_connections):
            (await stack.enter_async_context(connected(port))).sendall(sent)
        assert await get(port) == ("HTTP/1.1 200 OK", b"short")


@pytest.mark.parametrize("sent", [b"", b"GET /short HT"], ids=["idle", "half-sent"])
async def test_connection_without_a_whole_request_is_closed(sent: bytes) -> None:
    async with listener(HASTY) as port, connected(port) as client:
        client.sendall(sent)
        await until(lambda: is_closed(client))


async def test_client_that_sends_headers_slowly_is_closed() -> None:
    async with listener(HASTY) as port, connected(port) as client:

        def send_one() -> bool:
            with suppress(OSError):
                client.sendall(b"X: y\r\n")
            return is_closed(client)

        client.sendall(b"GET /short HTTP/1.1\r\n")
        await until(send_one)


async def test_client_that_does_not_read_its_answer_is_closed() -> None:
    async with listener(HASTY) as port:
        before = len(asyncio.all_tasks())
        async with connected(port) as client:
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            await until(lambda: select.select([client], [], [], 0)[0])
            await until(lambda: len(asyncio.all_tasks()) == before)


async def test_client_that_does_not_read_does_not_delay_the_end() -> None:
    async with asyncio.timeout(5), AsyncExitStack() as stack, listener(Limits(http_s=60)) as port:
        client = await stack.enter_async_context(connected(port))
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        await until(lambda: len(client.recv(1, socket.MSG_PEEK)) if select.select([client], [], [], 0)[0] else 0)


async def test_headers_without_an_end_are_refused() -> None:
    async with listener() as port:
        reader, writer = await send(port, b"GET /short HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_address_in_use_is_named() -> None:
    async with listener() as port:
        with pytest.raises(AddressInUse, match=str(port)):
            async with listening(f"{HOST}:{port}", {}, PATIENT):
                pass


async def test_stuck_and_waiting_processes_answer_503() -> None:
    problems: dict[str, str] = {}

    async def both() -> dict[str, str]:
        return problems

    async def metrics() -> bytes:
        return b"room_worker_skipped_total 0.0\n"

    address = f"{HOST}:{(port := free_port())}"
    async with served(address, address, Source(both, both, metrics), PATIENT):
        paths = ("/healthz", "/readyz", "/metrics")
        good = [await get(port, f"GET {path} HTTP/1.1\r\n\r\n") for path in paths]
        problems["nats"] = "not connected"
        bad = [await get(port, f"GET {path} HTTP/1.1\r\n\r\n") for path in paths]
    assert [body for _, body in good] == [b'{"status": "ok"}', b'{"status": "ready"}', await metrics()]
    assert [status.split(" ")[1] for status, _ in good + bad] == ["200", "200", "200", "503", "503", "200"]
    assert bad[1][1] == b'{"status": "waiting", "for": {"nats": "not connected"}}'


def test_type_of_the_metrics_is_that_of_the_library() -> None:
    assert PROMETHEUS == CONTENT_TYPE_LATEST
