"""The container engine, and the image that the tests run: built once, from the Dockerfile."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from testcontainers.core.docker_client import DockerClient

from tests.harness.servers import docker_answers

PYTHON_IMAGE = os.environ.get("PYTHON_IMAGE", "python:3.12-slim")
PROJECT = Path(__file__).parents[2]


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def docker_api() -> None:
    """Skip what runs containers where nothing can."""
    if not await docker_answers():
        pytest.skip(f"no Docker API answers at {os.environ.get('DOCKER_HOST') or '/var/run/docker.sock'}")


@pytest.fixture(scope="session")
def engine(docker_api: None) -> Iterator[Any]:  # noqa: ARG001 - no client without it
    """Return the Docker SDK's client."""
    client = DockerClient().client
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: Any) -> Any:
    """Build the image; under the name that compose.yaml gives it, so that nothing else is left behind."""
    built, _ = engine.images.build(
        path=str(PROJECT), buildargs={"PYTHON_IMAGE": PYTHON_IMAGE}, tag="room-worker", rm=True
    )
    return built
