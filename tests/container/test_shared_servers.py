"""The servers that all tests share, where they come from containers."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.harness.servers import MONGO_IMAGE, NATS_IMAGE, Addresses

pytestmark = pytest.mark.container


@pytest.mark.parametrize(("server", "image"), [("nats", NATS_IMAGE), ("mongo", MONGO_IMAGE)])
def test_the_shared_servers_are_containers(engine: Any, servers: Addresses, server: str, image: str) -> None:
    wanted = urlsplit(getattr(servers, server)).port
    wanted_image = engine.images.get(image).id
    published = {
        int(binding["HostPort"]): container.image.id
        for container in engine.containers.list(ignore_removed=True)
        for bindings in container.ports.values()
        for binding in bindings or ()
    }
    assert published.get(wanted) == wanted_image, f"port {wanted} is none of {published}"
