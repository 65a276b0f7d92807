"""Which replicas are alive, by how long each has been silent on the database's clock."""

import pytest

from store.leases.heartbeats import Replica
from worker.limits import Limits
from worker.replica.assignment import alive_ids

LEASE_MS = Limits().lease_ms


@pytest.mark.parametrize("silent_ms", [LEASE_MS, 10 * LEASE_MS, -LEASE_MS, -600_000])
def test_who_is_silent_for_a_lease_or_was_heard_in_the_future_is_dead(silent_ms: int) -> None:
    """A primary whose clock was ahead leaves signs of life behind that only the living replace."""
    assert alive_ids([Replica("dead", silent_ms), Replica("b", 500), Replica("a", -20)], LEASE_MS) == ["a", "b"]
