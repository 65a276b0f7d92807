"""The image: what is in it, and that it does the main job on a network of containers."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
import pytest_asyncio
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.container.conftest import PYTHON_IMAGE
from tests.container.running import run_once, running
from tests.harness.polling import until_answered
from tests.harness.servers import MONGO_IMAGE, NATS_IMAGE
from tests.harness.site import Rig, rig
from worker.local.mongo_replica_set import answers as mongo_answers
from worker.local.servers import nats_answers

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # an image takes a minute to build

MOST_BYTES_ADDED = 120_000_000
STOP_SECONDS = 10
READY_SECONDS = 30
CREATE = {"roomId": "r1", "name": "general", "users": ["bob", "carol"], "requesterAccount": "alice"}
REMOVE_BOB = {"roomId": "r1", "requester": "alice", "account": "bob"}

LOOK_INSIDE = """
import json, os, sys
from importlib.util import find_spec
from pathlib import Path

print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "packages": [name for name in ("pip", "setuptools", "hatchling", "pytest", "tests") if find_spec(name)],
    "programs": sorted(path.name for path in Path(sys.prefix, "bin").glob("pip*")),
    "tests": [str(path) for path in Path(sys.prefix).rglob("test_main_job.py")],
    "writable": [str(path) for path in Path(sys.prefix).rglob("*") if os.access(path, os.W_OK)],
}))
"""


class Servers(NamedTuple):
    """Where the servers are: on their own network `nats:4222` and `mongo:27017`, for the test on mapped ports."""

    network: Network
    nats: str
    mongo: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def networked() -> AsyncIterator[Servers]:
    """Start NATS and MongoDB on a separate network."""
    with Network() as network:
        nats_server = DockerContainer(NATS_IMAGE).with_command(["-js"]).with_exposed_ports(4222)
        mongo_server = DockerContainer(MONGO_IMAGE).with_exposed_ports(27017)
        mongo_server.with_command(["--replSet", "rs0", "--bind_ip_all"])
        for server, alias in ((nats_server, "nats"), (mongo_server, "mongo")):
            server.with_network(network).with_network_aliases(alias)
        with running(nats_server, "nats"), running(mongo_server, "mongo"):
            host, nats_port = nats_server.get_container_host_ip(), nats_server.get_exposed_port(4222)
            mongo_port = mongo_server.get_exposed_port(27017)
            await until_answered(lambda: nats_answers(host, nats_port))
            await until_answered(lambda: mongo_answers(host, mongo_port, member="mongo:27017"))
            mongo = f"mongodb://{host}:{mongo_port}/?directConnection=true"
            yield Servers(network, f"nats://{host}:{nats_port}", mongo)


@pytest.fixture
async def there(networked: Servers, site: str) -> AsyncIterator[Rig]:
    """Set up a separate site on these servers."""
    async with rig(networked.nats, networked.mongo, f"test_{secrets.token_hex(4)}", site) as made:
        yield made


@asynccontextmanager
async def worker(image: Any, networked: Servers, made: Rig) -> AsyncIterator[DockerContainer]:
    """Run the image until the block ends, ready at its start; it may write nowhere and has no privilege."""
    container = DockerContainer(image.id).with_network(networked.network).with_exposed_ports(8081, 9090)
    container.with_envs(
        NATS_URL="nats://nats:4222",
        MONGO_URI="mongodb://mongo:27017/?replicaSet=rs0",
        MONGO_DB=made.settings.mongo_db,
        SITE_ID=made.site,
    )
    container.with_kwargs(read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"])
    with running(container, "room-worker"):
        await ready(container)
        yield container


async def ready(container: DockerContainer) -> None:
    """Wait until it says so on its mapped port; fail with its last answer, at once when it ended."""
    inside = container.get_wrapped_container()
    answer: tuple[int, str] | str = "no answer"
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not isinstance(answer, tuple) or answer[0] != 200:
                await asyncio.sleep(0.1)
                inside.reload()
                assert inside.status == "running", f"it is {inside.status} before it was ready"
                try:
                    answer = await get(container, 8081, "/readyz")
                except aiohttp.ClientError as error:
                    answer = str(error)
    except TimeoutError:
        raise AssertionError(f"not ready within {READY_SECONDS} s: {answer}") from None


async def get(container: DockerContainer, port: int, path: str) -> tuple[int, str]:
    url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


def test_what_runs_has_no_privilege_and_nothing_of_the_build(engine: Any, image: Any) -> None:
    code, text = run_once(engine, image.id, "-c", LOOK_INSIDE, entrypoint=["python"])
    assert code == 0, text
    assert orjson.loads(text) == {"user": [10001, 10001], "packages": [], "programs": [], "tests": [], "writable": []}


def test_it_adds_little_to_its_base(engine: Any, image: Any) -> None:
    added = image.attrs["Size"] - engine.images.get(PYTHON_IMAGE).attrs["Size"]
    assert added < MOST_BYTES_ADDED, f"{added / 1e6:.0f} MB"


def test_help_names_the_commands(engine: Any, image: Any) -> None:
    code, text = run_once(engine, image.id, "--help")
    assert code == 0, text
    assert "run" in text.partition("Commands:")[2], text


def test_wrong_settings_end_it_with_their_names(engine: Any, image: Any) -> None:
    wrong = {"NATS_URL": "nats", "MONGO_URI": "mongo", "PARTITIONS": "none", "NATS_TLS_CA": "/missing"}
    code, text = run_once(engine, image.id, environment=wrong)
    assert code == 2, text
    assert [name for name in wrong if f"{name} must be " not in text] == [], text


async def test_a_removal_reaches_the_survivors_and_not_the_one_removed(
    image: Any, networked: Servers, there: Rig
) -> None:
    await there.users("alice", "bob", "carol")
    async with worker(image, networked, there):
        created = await there.ask("create", CREATE)
        assert created["status"] == "ok", created
        first = there.keys("bob")
        removed = await there.ask("member.remove", REMOVE_BOB)
        assert removed["status"] == "ok", removed
        assert [version for version, _ in there.keys("carol")] == [0, 1]
        assert there.keys("alice") == there.keys("carol")
        assert there.keys("bob") == first == there.keys("carol")[:1]


async def test_it_says_how_it_is_on_its_ports_and_to_the_engine(image: Any, networked: Servers, there: Rig) -> None:
    async with worker(image, networked, there) as container:
        assert await get(container, 8081, "/healthz") == (200, '{"status": "ok"}')
        assert await get(container, 8081, "/readyz") == (200, '{"status": "ready"}')
        status, text = await get(container, 9090, "/metrics")
        assert status == 200
        assert "room_worker_partitions" in text

        inside = container.get_wrapped_container()
        inside.reload()
        # Of the container: podman's answer about an image leaves the health check out.
        kind, *check = inside.attrs["Config"]["Healthcheck"]["Test"]
        assert kind == "CMD"
        assert inside.exec_run(check) == (0, b"")
        code, _ = inside.exec_run(check, environment={"HEALTH_ADDR": ":1"})
        assert code != 0, "nothing answers there"


async def test_it_is_process_1_and_sigterm_ends_it_well(image: Any, networked: Servers, there: Rig) -> None:
    async with worker(image, networked, there) as container:
        inside = container.get_wrapped_container()
        _, first = inside.exec_run(["cat", "/proc/1/cmdline"])
        assert first.split(b"\0")[1:-1] == [b"/opt/room-worker/bin/room-worker", b"run"], first
        since = time.monotonic()
        await asyncio.to_thread(inside.stop, timeout=STOP_SECONDS)
        took = time.monotonic() - since
        inside.reload()
        assert inside.attrs["State"]["ExitCode"] == 0
        assert took < STOP_SECONDS, f"took {took:.1f} s"
        assert b'"stopped"' in inside.logs()
