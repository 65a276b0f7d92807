"""One site, one database: the id of the site in the database and its witness at the broker must be the same.

Two databases would give every version of every room two different keys. (docs/design.md, "Site identity")
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from roomkeys.errors import TransientError
from roomkeys.subjects import events_stream
from store.database import Database
from store.leases.site_id import ensure_site_id, stored_site_id
from worker.broker.cancellation import cancel_and_wait
from worker.broker.connection import Broker
from worker.broker.jetstream.site_witness import SITE, Witness, read_witness, write_witness
from worker.settings import WrongSetting
from worker.telemetry.logs import logger

log = logger("site")


@dataclass(slots=True)
class SiteIdentity:
    """The identity of a site: `site_id` is set by `establish`."""

    site: str
    database: Database
    broker: Broker
    site_id: str | None = None
    is_written: bool = True

    async def verify(self) -> None:
        """Raise `WrongSetting` if the broker knows another id for this site than the database; write nothing.

        The witness is read first: when it is there, the database that wrote it had the id before.
        """
        witness = await read_witness(self.broker, self.site)
        stored = self.site_id or await stored_site_id(self.database, self.site)
        if witness is not None and witness.site_id != stored:
            raise WrongSetting(contradiction(self.site, witness, self.database.db.name, stored))

    async def establish(self) -> None:
        """Create the id in the database and its witness at the broker, if they do not exist.

        `WrongSetting` as `verify`. If the broker does not let the witness be written, a line of the log says so.
        """
        self.site_id = await ensure_site_id(self.database, self.site)
        await self._restore_witness()

    async def _restore_witness(self) -> None:
        if await read_witness(self.broker, self.site) is None and self.site_id is not None and self.is_written:
            try:
                await write_witness(self.broker, self.site, Witness(self.site_id, self.database.db.name))
            except TransientError as error:
                self.is_written = False
                log.warning(
                    "the events stream cannot take the id of the site, so a second database would not be noticed",
                    cause=str(error),
                    remedy=remedy(self.site, self.site_id),
                )
        await self.verify()

    @asynccontextmanager
    async def watched(self, stop: asyncio.Event, every_s: float) -> AsyncIterator[None]:
        """Verify the id during the block, and write the witness again after the stream was created again.

        If the broker knows another id, set `stop`, and raise `WrongSetting` at the end of the block.
        """
        watching = asyncio.create_task(self._watch(stop, every_s))
        try:
            yield
        finally:
            if not watching.done():
                await cancel_and_wait(watching)
        if not watching.cancelled():
            watching.result()

    async def _watch(self, stop: asyncio.Event, every_s: float) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await stop.wait()
                return
            try:
                await self._restore_witness()
            except TransientError as error:
                log.debug("the id of the site was not verified", cause=str(error))
            except WrongSetting:
                stop.set()
                raise


def remedy(site: str, site_id: str) -> str:
    """Return the command that gives the events stream the witness."""
    return f"nats stream edit {events_stream(site)} --metadata {SITE}={site_id}"


def contradiction(site: str, witness: Witness, database: str, stored: str | None) -> str:
    """Return the sentence that names both ids and says what to do."""
    stream = events_stream(site)
    other = f"has the id {stored} for it" if stored else "has no data of it"
    return (
        f"MONGO_URI and MONGO_DB must name the database of the site {site}: the stream {stream} belongs to the "
        f"database {witness.database!r} with the id {witness.site_id}, and {database!r} {other}. "
        "Two databases would give every version of a key two values. If the database was lost, restore it from a "
        "backup. If another one takes its place on purpose, stop all replicas, let clients forget the keys of the "
        f"site, run {remedy(site, '')} and start again"
    )
