"""Which partitions a replica should own, given the heartbeats and the cursors. (docs/design.md, "Partitions")"""

from collections.abc import Sequence

from store.database import Document
from store.leases.heartbeats import Replica


def alive_ids(known: Sequence[Replica], lease_ms: int) -> list[str]:
    """Return the ids of the replicas that are alive, in order.

    A heartbeat in the future comes from the clock of a former primary; a replica that is alive soon replaces it.
    """
    return sorted(replica.id for replica in _alive(known, lease_ms))


def serving_ids(known: Sequence[Replica], lease_ms: int) -> list[str]:
    """Return the ids of the replicas that share the partitions, in order.

    These are the replicas that are alive, without those that have been unable for half a lease. If no replica is
    able, or became able less than a lease ago, all share: to hand partitions over would help nobody. So an outage
    that all replicas have at almost the same time moves no partition.
    """
    alive = _alive(known, lease_ms)
    is_any_able = any(one.condition.unable is None and one.changed_ms >= lease_ms for one in alive)
    return sorted(one.id for one in alive if not (is_any_able and _is_left_out(one, lease_ms)))


def fair_share(serving: Sequence[str], me: str, partitions: int) -> int:
    """Return how many partitions a replica should own; the shares of all add up to all partitions."""
    if me not in serving:
        return 0
    whole, left_over = divmod(partitions, len(serving))
    return whole + (serving.index(me) < left_over)


def claimable(documents: Sequence[Document], serving: Sequence[str], me: str) -> list[Document]:
    """Return the cursor documents without an owner that serves, and those that name this replica, which dropped them.

    An owner that is unable may not be able to release them either.
    """
    return [document for document in documents if document["owner"] not in serving or document["owner"] == me]


def _alive(known: Sequence[Replica], lease_ms: int) -> list[Replica]:
    return [replica for replica in known if abs(replica.silent_ms) < lease_ms]


def _is_left_out(replica: Replica, lease_ms: int) -> bool:
    return replica.condition.unable is not None and replica.changed_ms >= lease_ms / 2
