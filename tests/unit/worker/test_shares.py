"""Which replicas share the partitions, by how long each has been silent or unable on the database's clock."""

from math import inf

import pytest

from store.leases.heartbeats import Condition, Replica
from worker.limits import Limits
from worker.replica.shares import alive_ids, claimable, fair_share, serving_ids

LEASE_MS = Limits().lease_ms


def unable(name: str, since_ms: float) -> Replica:
    return Replica(name, 100, Condition(unable="not connected to NATS"), since_ms)


@pytest.mark.parametrize("silent_ms", [LEASE_MS, 10 * LEASE_MS, -LEASE_MS, -600_000])
def test_replica_that_is_silent_for_a_lease_or_has_a_heartbeat_in_the_future_is_dead(silent_ms: int) -> None:
    """A primary whose clock was ahead leaves heartbeats behind that only living replicas replace."""
    assert alive_ids([Replica("dead", silent_ms), Replica("b", 500), Replica("a", -20)], LEASE_MS) == ["a", "b"]


def test_replica_that_is_unable_for_half_a_lease_leaves_its_partitions_to_the_others() -> None:
    known = [Replica("a", 100), unable("b", LEASE_MS / 2), Replica("c", 100)]
    assert serving_ids(known, LEASE_MS) == ["a", "c"]
    assert [fair_share(["a", "c"], me, 8) for me in "abc"] == [4, 0, 4]
    assert serving_ids([Replica("a", 100), unable("b", LEASE_MS / 2 - 1)], LEASE_MS) == ["a", "b"]


def test_replicas_that_are_all_unable_keep_their_partitions() -> None:
    assert serving_ids([unable("a", inf), unable("b", inf)], LEASE_MS) == ["a", "b"]
    assert serving_ids([unable("a", inf)], LEASE_MS) == ["a"]
    assert serving_ids([unable("a", inf), Replica("dead", LEASE_MS)], LEASE_MS) == ["a"]


def test_replica_that_has_just_become_able_again_takes_nothing_from_the_others() -> None:
    """After an outage of all replicas, each is able again at another moment."""
    assert serving_ids([unable("a", inf), Replica("b", 100, changed_ms=300)], LEASE_MS) == ["a", "b"]
    assert serving_ids([unable("a", inf), Replica("b", 100, changed_ms=LEASE_MS)], LEASE_MS) == ["b"]


def test_partitions_of_an_owner_that_does_not_serve_are_free_to_take() -> None:
    documents = [{"partition": number, "owner": owner} for number, owner in enumerate(["a", "b", "dead", None])]
    assert [item["partition"] for item in claimable(documents, ["a"], "a")] == [0, 1, 2, 3]
    assert [item["partition"] for item in claimable(documents, ["a", "b"], "a")] == [0, 2, 3]
