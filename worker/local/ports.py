"""Free ports of this machine, for local servers."""

import contextlib
import secrets
import socket
from typing import Final

HOST: Final = "127.0.0.1"

PORTS: Final = range(20_000, 32_768)
"""Below the ports of outgoing connections (Linux: from 32768 on), which would take the port of a killed server."""


def free_port() -> int:
    """Return a random port on which nothing listens."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port


def is_free(port: int) -> bool:
    """Tell whether nothing listens on the port."""
    with socket.socket() as probe:
        # Without this, connections of a killed server that are in TIME_WAIT would make its port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
