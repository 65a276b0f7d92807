"""Containers that run for the length of a block; an error in the block carries the end of their logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from testcontainers.core.container import DockerContainer

LOG_LINES = 30
RUN_SECONDS = 60


@contextmanager
def running(container: DockerContainer, name: str) -> Iterator[DockerContainer]:
    """Start the container and remove it at the end."""
    with container:
        try:
            yield container
        except BaseException as error:
            error.add_note(said(container.get_wrapped_container(), name))
            raise


def said(container: Any, name: str) -> str:
    """Return a container's state and the end of its log."""
    container.reload()
    log = container.logs(tail=LOG_LINES).decode(errors="replace").rstrip()
    return f"--- {name} ({container.status}) said:\n{log or '(nothing)'}"


def run_once(engine: Any, image: Any, *command: str, **options: Any) -> tuple[int, str]:
    """Run a command to its end; return the exit code and everything it said."""
    container = engine.containers.create(image, list(command), **options)
    try:
        container.start()
        code = container.wait(timeout=RUN_SECONDS)["StatusCode"]
        return code, container.logs().decode()
    finally:
        container.remove(force=True, v=True)
