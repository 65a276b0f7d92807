"""The check that NATS and MongoDB belong to the same site."""

from collections.abc import AsyncIterator

from pymongo.errors import PyMongoError

from roomkeys.errors import TransientError
from store.leases.site_id import stored_site_id
from worker.app import open_database
from worker.broker.jetstream.site_witness import read_witness
from worker.cli.check.result import CheckResult, failed, passed, warned
from worker.cli.terminal.connections import nats_connection
from worker.cli.terminal.process import CommandFailed
from worker.replica.site_identity import SiteIdentity, remedy
from worker.settings import Settings, WrongSetting


async def check_site(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield one result; nothing if a server is missing, which other checks report."""
    database = open_database(settings.model_copy(update={"mongo_driver": "pymongo"}))
    try:
        async with nats_connection(settings) as broker:
            await SiteIdentity(settings.site_id, database, broker).verify()
            stored = await stored_site_id(database, settings.site_id)
            if stored is None:
                yield passed("site", f"{settings.mongo_db} becomes its database, at the first start")
            elif await read_witness(broker, settings.site_id) is None:
                yield warned(
                    "site", f"the events stream does not name its database: run {remedy(settings.site_id, stored)}"
                )
            else:
                yield passed("site", f"the events stream and the database {settings.mongo_db} belong together")
    except WrongSetting as error:
        yield failed("site", str(error))
    except (CommandFailed, TransientError, PyMongoError):
        return
    finally:
        await database.close()
