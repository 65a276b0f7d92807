"""Results that wait for a large room."""

from roomkeys.decisions.decision import OutboxEntry, Outcome
from roomkeys.subjects import Operation
from store.writes.outbox import StoredEntry
from worker.pipeline.state.pending_results import PendingResults


def test_pending_results_are_full_by_results_not_by_entries() -> None:
    """A batch of 256 events of one room is one entry."""
    outcome = Outcome(1, Operation.ROTATE, 0, "big", "alice", "x")
    pending = PendingResults(20_000)
    pending.defer((StoredEntry(str(at), OutboxEntry("big", (outcome,) * 256, high=1)) for at in range(200)), {"big"})
    assert pending.is_full
