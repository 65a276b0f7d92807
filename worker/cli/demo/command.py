"""`room-worker demo`: the whole job on this machine, with nothing installed beforehand, and checked."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import click

from worker.cli.demo.sandbox import local_settings, prepare, working
from worker.cli.demo.stage import MESSAGES, ROOM, Stage
from worker.cli.demo.story import STORY, Step, expectations, judge, people
from worker.cli.demo.subscriber import Subscriber
from worker.cli.terminal.connections import database_connection, nats_connection
from worker.cli.terminal.output import example, show
from worker.cli.terminal.process import AMISS, OK, Failed, finish
from worker.local.servers import local_servers
from worker.settings import Settings, read_settings

_PATIENCE: Final = 15.0
"""Seconds until a story that goes wrong is given up; it takes a fraction of one."""

_OF_ITS_OWN: Final = {"_env_prefix": "ROOM_WORKER_DEMO_", "ROOM_KEY_GRACE_PERIOD": "24h"}
"""What keeps the settings of the environment out of the demo."""


@click.command(epilog=example("room-worker demo"))
def demo() -> None:
    """Play a short story on this machine, with nothing installed beforehand, and check it.

    A NATS server, a MongoDB, a worker, a producer and subscribers: a room is created, somebody joins,
    somebody is removed while somebody else is offline, and everybody tries to read every message. Takes a few
    seconds and leaves nothing behind. Exit code 0: everybody could read what they should, and nobody what they
    should not.
    """
    finish(_demo())


async def _demo() -> int:
    started = perf_counter()
    with TemporaryDirectory(prefix="room-worker-demo-", ignore_cleanup_errors=True) as folder:
        show("Starting a NATS server, a MongoDB and a worker, in a temporary folder …")
        async with local_servers(Path(folder)) as (nats, mongo):
            settings = read_settings(**local_settings(nats, mongo, http_port=0), **_OF_ITS_OWN)
            show(f"They are up after {perf_counter() - started:.1f} s.")
            await prepare(settings, people(STORY))
            complaints = await _play(settings, STORY)
            await mongo.kill()  # its data goes anyway, and a polite end takes a second
    for complaint in complaints:
        click.echo(f"room-worker: {complaint}", err=True)
    if not complaints:
        _applaud(perf_counter() - started)
    return AMISS if complaints else OK


async def _play(settings: Settings, story: Sequence[Step]) -> list[str]:
    """Play the story and return what went otherwise than it demands."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(database_connection(settings))
        broker = await stack.enter_async_context(nats_connection(settings))
        readers = [Subscriber(account, ROOM, settings) for account in people(story)]
        await stack.enter_async_context(working(settings))
        for reader in readers:
            stack.push_async_callback(reader.go)
            await reader.come(MESSAGES)
        try:
            async with asyncio.timeout(_PATIENCE):
                for reader in readers:
                    await reader.catch_up(())  # what anybody holds from now on was sent
                stage = Stage(broker, database, settings.site_id, readers)
                for step in story:
                    await stage.play(step)
                return await verdict(story, readers)
        except TimeoutError:
            raise Failed(f"expected that the story ends within {_PATIENCE:g} s; it did not") from None


async def verdict(story: Sequence[Step], readers: Sequence[Subscriber]) -> list[str]:
    """Hold what everybody could read, when it came and with all keys in the end, against the story."""
    expected = expectations(story)
    at_once = judge([item.at_once() for item in expected], {reader.account: reader.at_once for reader in readers})
    in_the_end = judge(expected, {reader.account: await reader.in_the_end() for reader in readers})
    return list(dict.fromkeys(at_once + in_the_end))


def _applaud(seconds: float) -> None:
    show("")
    show(("As it must be: ", "bold green"), "everyone who stayed could read everything from when they joined,")
    show("also what was said while they were offline; and whoever was removed is given no key for what was")
    show("said afterwards. ", (f"{seconds:.1f} s", "dim"))
