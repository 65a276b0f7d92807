"""What the sdist and the wheels of `make dist` contain and require. (docs/install.md)"""

import tomllib
from pathlib import Path

import pytest

from tests.integration.packaging.distributions import (
    CLIENT,
    PROJECT,
    WORKER,
    modules,
    read,
    requirements,
    sources,
    wheel,
)

pytestmark = pytest.mark.timeout(300)  # pip may have to download

OURS = {"room-worker", "room-worker-client"}


def test_make_dist_builds_an_sdist_and_two_wheels_of_one_version(dist: Path) -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert sorted(path.name for path in dist.iterdir()) == [
        f"room_worker-{version}-py3-none-any.whl",
        f"room_worker-{version}.tar.gz",
        f"room_worker_client-{version}-py3-none-any.whl",
    ]


def test_client_wheel_contains_roomkeys_alone_with_its_licence(dist: Path) -> None:
    client = wheel(dist, CLIENT)
    assert modules(client) == sources("roomkeys")
    assert read(client, "/licenses/LICENSE") == (PROJECT / "LICENSE").read_bytes()


def test_worker_wheel_contains_every_package_and_the_command(dist: Path) -> None:
    worker = wheel(dist, WORKER)
    assert modules(worker) == sources("roomkeys", "store", "worker")
    assert b"room-worker = worker.cli.main:main" in read(worker, "/entry_points.txt")


@pytest.mark.parametrize("name", [WORKER, CLIENT])
def test_no_wheel_requires_a_distribution_of_this_project(dist: Path, name: str) -> None:
    """An installer would look for it on an index, where anybody can register the name."""
    assert requirements(wheel(dist, name)).keys() & OURS == set()


def test_client_wheel_requires_the_same_versions_as_the_worker_except_of_nats_py(dist: Path) -> None:
    client, worker = requirements(wheel(dist, CLIENT)), requirements(wheel(dist, WORKER))
    assert (client.pop("nats-py"), worker["nats-py"]) == ("<3,>=2.16", "[nkeys]~=2.16.0")
    assert client == {name: worker[name] for name in client}
