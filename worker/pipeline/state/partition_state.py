"""What one lease of a partition knows: how far it has come, and what it has not finished yet."""

from dataclasses import dataclass, field

from roomkeys.decisions.slices import Sliceable
from roomkeys.events.event import AnyEvent, InvalidEvent, Rotate
from roomkeys.events.position import StreamPosition
from store.leases.lease import Lease
from worker.pipeline.failures.set_aside import SetAside
from worker.pipeline.rollouts.large_rooms import LargeRooms
from worker.pipeline.state.pending_results import PendingResults


@dataclass(slots=True)
class PartitionState:
    """One partition's state under one lease. A new lease begins with a new state.

    `position` is what the cursor document holds; only `advance` changes it. `partial` is the event that is applied
    in slices, and `finished_ids` are the outbox entries to delete with the next write.
    """

    lease: Lease
    position: StreamPosition
    large_rooms: LargeRooms
    pending: PendingResults
    set_aside: SetAside
    partial: Sliceable | None = None
    finished_ids: list[str] = field(default_factory=list)

    def begin_slices(self, event: AnyEvent) -> Sliceable:
        """Note, and return, the event that is to be applied in slices; nothing of it is written yet."""
        if isinstance(event, InvalidEvent | Rotate):
            raise TypeError("an event without memberships has no slices")
        self.partial = event
        return event

    def advance(self, position: StreamPosition, partial: Sliceable | None = None) -> None:
        """Note what has been written: the cursor is at `position`, `partial` is the event after it in slices."""
        self.position = position
        self.partial = partial
