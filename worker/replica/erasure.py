"""Erases expired keys beside the loop, so that they go in rooms that never rotate again.

Every replica does it: a look is a few commands, and finds nothing that another replica has erased.
"""

import asyncio
import random

from roomkeys.errors import TransientError
from store.database import Database
from store.writes.expiry import erase_after, erase_due
from worker.limits import Limits
from worker.telemetry.logs import logger
from worker.telemetry.outage import Outage

log = logger("erasure")


async def erase_expired_keys(database: Database, limits: Limits) -> None:
    """Erase keys at most `erase_s` seconds after they expire, by the clock of the database; never return."""
    outage, after = Outage("erasing expired keys", log), ""
    while True:
        await asyncio.sleep(limits.erase_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the replicas
        try:
            after = await erase_after(database, database.clock.now_ms(), after, limits.erase_pass_rooms)
            while erased := await erase_due(database, database.clock.now_ms(), limits.erase_rooms):
                log.debug("erased expired keys", documents=erased)
        except TransientError as error:
            outage.failed(str(error))
        else:
            outage.ended()
