"""compose.yaml: a whole site that comes up by itself, shares its work, and outlives one of its replicas."""

import asyncio
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from tests.container.conftest import PROJECT
from tests.container.running import said
from tests.harness.site import Rig
from worker.settings import read_settings

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]  # it may have to build the image

COMPOSE_SECONDS = 600
UP_SECONDS = 60
TAKEOVER_SECONDS = 10
ROOMS = 8
FILES = ("-f", str(PROJECT / "compose.yaml"), "-f", str(PROJECT / "tests/container/compose.test.yaml"))


class Project:
    """One site of compose.yaml under a separate name."""

    def __init__(self, engine: Any, program: list[str]) -> None:
        self.name = f"rw{secrets.token_hex(4)}"
        self.site = f"s{secrets.token_hex(4)}"
        self._engine = engine
        self._program = program

    async def compose(self, *arguments: str) -> None:
        """Run the compose program on it; fail with what it said."""
        # podman's own command line talks to the engine that the tests talk to, and keeps the health check.
        podman = {"CONTAINER_HOST": os.environ.get("DOCKER_HOST", ""), "BUILDAH_FORMAT": "docker"}
        process = await asyncio.create_subprocess_exec(
            *self._program, "-p", self.name, *FILES, *arguments,
            env={**os.environ, **{name: value for name, value in podman.items() if value}, "SITE_ID": self.site},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), COMPOSE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{arguments}: {output.decode(errors='replace')[-4000:]}"

    def containers(self, service: str = "") -> list[Any]:
        """Return its containers, those that ended too."""
        found = [
            item
            for item in self._engine.containers.list(all=True, ignore_removed=True)
            if item.name.startswith(self.name)
        ]
        return [item for item in found if service in {"", item.labels["com.docker.compose.service"]}]

    def port(self, service: str, port: int) -> int:
        """Return the port of this machine that a service's port is mapped to."""
        (container,) = self.containers(service)
        return int(container.ports[f"{port}/tcp"][0]["HostPort"])

    def sweep(self) -> list[str]:
        """Remove whatever is left of it and return the names."""
        left = []
        for container in self.containers():
            left.append(container.name)
            container.remove(force=True, v=True)
        for kind in (self._engine.networks, self._engine.volumes):
            for item in kind.list():
                if item.name.startswith(self.name):
                    left.append(item.name)
                    item.remove()
        return left


@asynccontextmanager
async def up(engine: Any, program: list[str]) -> AsyncIterator[Project]:
    """Bring a site up; take it down at the end, whatever happened, and leave nothing."""
    project = Project(engine, program)
    try:
        await project.compose("up", "-d", "--build")
        yield project
    except BaseException as error:
        for container in project.containers():
            error.add_note(said(container, container.name))
        raise
    finally:
        try:
            await project.compose("down", "-v")
        finally:
            left = project.sweep()
    assert left == [], "`down -v` leaves nothing"


@asynccontextmanager
async def listening(project: Project) -> AsyncIterator[Rig]:
    """Connect to the site's servers; its workers make the streams."""
    settings = read_settings(
        nats_url=f"nats://127.0.0.1:{project.port('nats', 4222)}",
        mongo_uri=f"mongodb://127.0.0.1:{project.port('mongo', 27017)}/?directConnection=true",
        site_id=project.site,
    )
    uri = settings.mongo_uri.get_secret_value()
    async with AsyncMongoClient[Any](uri, serverMonitoringMode="poll", tz_aware=True) as client:
        nc = await nats.connect(settings.nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        try:
            made = Rig(nc, client[settings.mongo_db], settings)
            await nc.subscribe("chat.>", cb=made.hear)
            await nc.flush()
            yield made
        finally:
            await nc.close()


async def owners(made: Rig, look: Callable[[list[str]], bool], seconds: float, what: str) -> list[str]:
    """Wait until the partitions have the owners they should have; return these."""
    seen: list[Any] | str = "nobody"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    found = await made.db.room_worker_cursors.find({"site": made.site}).to_list(None)
                    seen = [item["owner"] for item in found]
                except PyMongoError as error:  # it is not a replica set yet
                    seen = str(error)
                if isinstance(seen, list) and seen and None not in seen and look(seen):
                    return seen
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{what} within {seconds:g} s: owners are {seen}") from None


async def create_rooms(made: Rig, prefix: str) -> None:
    """Create enough rooms to reach every replica, and see that each is answered and has a key."""
    for number in range(ROOMS):
        room = f"{prefix}{number}"
        body = {"roomId": room, "name": "general", "users": ["bob"], "requesterAccount": "alice"}
        created = await made.ask("create", body)
        assert created["status"] == "ok", created
        assert [version for version, _ in made.keys("bob", room)] == [0]


@pytest.fixture
async def program() -> list[str]:
    """Return the compose program of this machine."""
    if shutil.which("docker"):
        asking = await asyncio.create_subprocess_exec(
            "docker", "compose", "version", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        if await asking.wait() == 0:
            return ["docker", "compose"]
    if shutil.which("podman"):
        return [sys.executable, "-m", "podman_compose"]
    pytest.skip("there is neither `docker compose` nor podman for podman-compose")


@pytest.mark.usefixtures("image")  # so that compose finds every step of the build done
async def test_the_site_comes_up_shares_its_work_and_outlives_a_replica(engine: Any, program: list[str]) -> None:
    async with up(engine, program) as project, listening(project) as made:
        workers = {item.attrs["Config"]["Hostname"]: item for item in project.containers("worker")}
        assert len(workers) == 2
        both = await owners(made, lambda seen: len(set(seen)) == 2, UP_SECONDS, "both replicas own partitions")
        assert {owner.rpartition("-")[0] for owner in both} == set(workers), "an owner is named after its host"
        await made.users("alice", "bob")
        await create_rooms(made, "before-")

        killed = both[0]
        workers[killed.rpartition("-")[0]].kill()
        since = time.monotonic()
        await owners(made, lambda seen: killed not in seen, 2 * TAKEOVER_SECONDS, "the killed one's partitions move")
        took = time.monotonic() - since
        assert took < TAKEOVER_SECONDS, f"took {took:.1f} s"
        await create_rooms(made, "after-")
