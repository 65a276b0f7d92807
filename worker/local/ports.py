"""Ports of this machine for servers of one's own."""

import contextlib
import secrets
import socket
from typing import Final

HOST: Final = "127.0.0.1"

# Below the ports that systems hand to outgoing connections (Linux: from 32768 on): none of those takes a
# server's port while the server is down.
PORTS: Final = range(20_000, 32_768)


def free_port() -> int:
    """Return a port on which nothing listens, at random."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port


def is_free(port: int) -> bool:
    """Tell whether nothing listens on the port."""
    with socket.socket() as probe:
        # Connections of a killed server linger in TIME_WAIT; they do not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
