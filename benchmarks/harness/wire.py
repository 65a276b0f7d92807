"""A bare connection to the broker: bytes out, bytes in and a barrier, without the cost of a client."""

import socket
from typing import Final

_MEGABYTE: Final = 2**20


def connect(url: str) -> socket.socket:
    """Connect to a NATS server without a client library."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    greeting = b""
    while not greeting.endswith(b"\r\n"):
        greeting += connection.recv(_MEGABYTE)
    connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
    confirm(connection)
    return connection


def confirm(connection: socket.socket) -> None:
    """Return once the broker has taken everything that was sent; the connection must not get messages."""
    connection.sendall(b"PING\r\n")
    received = b""
    while not received.endswith(b"PONG\r\n"):
        data = connection.recv(_MEGABYTE)
        if not data:
            raise ConnectionError("the broker closed the connection")
        received += data
        if b"PING\r\n" in data:
            connection.sendall(b"PONG\r\n")
