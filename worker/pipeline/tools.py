"""What every partition of a replica works with."""

from dataclasses import dataclass

from store.database import Database
from worker.broker.connection import Broker
from worker.pipeline.deliver import Publisher
from worker.pipeline.large_rooms import PassContext
from worker.replica.feed import Feed
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Tools:
    """The replica's connections and what uses them; `owner` is the replica's id."""

    settings: Settings
    database: Database
    broker: Broker
    feed: Feed
    courier: Publisher
    passes: PassContext
    owner: str

    @property
    def site(self) -> str:
        """Return the site whose events these are."""
        return self.settings.site_id
