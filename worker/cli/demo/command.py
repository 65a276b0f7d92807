"""`room-worker demo`: plays a story on this machine, with nothing installed beforehand, and verifies it."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import click

from worker.cli.demo.sandbox import local_settings, prepare, running_worker
from worker.cli.demo.stage import MESSAGES, ROOM, Stage
from worker.cli.demo.story import STORY, Step, accounts_in, differences, expectations
from worker.cli.demo.subscriber import Subscriber
from worker.cli.terminal.connections import database_connection, nats_connection
from worker.cli.terminal.output import example, show
from worker.cli.terminal.process import FAILURE, OK, CommandFailed, to_end
from worker.local.servers import local_servers
from worker.settings import Settings, read_settings

_LIMIT_SECONDS: Final = 15.0
"""How long the story may take. It takes less than a second; only a failure takes longer."""

_NO_ENVIRONMENT: Final = {"_env_prefix": "ROOM_WORKER_DEMO_", "ROOM_KEY_GRACE_PERIOD": "24h"}
"""Arguments of `read_settings` that keep the settings of the environment out of the demo."""


@click.command(epilog=example("room-worker demo"))
@to_end
async def demo() -> int:
    """Play a short story on this machine, and verify the outcome.

    Nothing has to be installed beforehand. The demo starts a NATS server, a MongoDB, a worker, a producer and
    subscribers in a temporary folder. A room is created, an account joins, another one is removed while a third
    one is offline, and all of them try to read every message.

    The demo takes a few seconds and leaves nothing behind. Exit code 0: every account could read what it should,
    and nothing else.
    """
    started = perf_counter()
    with TemporaryDirectory(prefix="room-worker-demo-", ignore_cleanup_errors=True) as folder:
        show("Starting a NATS server, a MongoDB and a worker in a temporary folder …")
        async with local_servers(Path(folder)) as (nats, mongo):
            settings = read_settings(**local_settings(nats, mongo, http_port=0), **_NO_ENVIRONMENT)
            show(f"The servers are up after {perf_counter() - started:.1f} s.")
            await prepare(settings, accounts_in(STORY))
            found = await _play(settings, STORY)
            await mongo.kill()  # a regular stop takes a second, and the data is deleted anyway
    for difference in found:
        click.echo(f"room-worker: {difference}", err=True)
    if not found:
        show("\n", ("Passed", "bold green"), f" in {perf_counter() - started:.1f} s.")
        show("Every member could read every message sent since it joined, also those sent while it was offline.")
        show("The removed account got no key for what was said after its removal.")
    return FAILURE if found else OK


async def _play(settings: Settings, story: Sequence[Step]) -> list[str]:
    """Play the story and return how the outcome differs from what it demands."""
    opened = database_connection(settings)
    async with opened as database, nats_connection(settings) as broker, AsyncExitStack() as stack:
        subscribers = {account: Subscriber(account, ROOM, settings) for account in accounts_in(story)}
        await stack.enter_async_context(running_worker(settings))
        for subscriber in subscribers.values():
            stack.push_async_callback(subscriber.disconnect)
            await subscriber.connect(MESSAGES)
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                for subscriber in subscribers.values():
                    await subscriber.catch_up(())  # from here on, a subscriber gets its keys as they are sent
                stage = Stage(broker, database, settings.site_id, subscribers)
                for step in story:
                    await stage.play(step)
                return await verify(story, subscribers.values())
        except TimeoutError:
            raise CommandFailed(f"the story did not end within {_LIMIT_SECONDS:g} s") from None


async def verify(story: Sequence[Step], subscribers: Collection[Subscriber]) -> list[str]:
    """Compare what the subscribers could read with what the story demands; return the differences.

    Both count: what they could read when a message came, and what they can read with all their keys at the end.
    """
    expected = expectations(story)
    on_arrival = {subscriber.account: subscriber.on_arrival for subscriber in subscribers}
    at_end = {subscriber.account: await subscriber.read_everything() for subscriber in subscribers}
    of_members_online = [replace(item, members=item.members - item.offline) for item in expected]
    return list(dict.fromkeys(differences(of_members_online, on_arrival) + differences(expected, at_end)))
