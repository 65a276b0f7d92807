"""Leases: which replica may write for which partition, and how far each partition has come.

Nothing here decides which partitions a replica should own (`worker/replica/assignment.py` does), and nothing here
reads or writes rooms.

Terms
-----
lease
    The right of one replica to write for one partition of a site. It is identified by the site, the partition, the
    owner and the epoch. The owner is the id of one running process and is never used again.
epoch
    The number of a lease. Every take of a partition increments it, also when the owner stays the same.
cursor
    The document of a partition in `room_worker_cursors`. It names the owner, the epoch and the owner's MongoDB
    session, and holds the stream position: everything up to it has been applied.
fence
    The first write of every transaction: the cursor document, filtered by owner and epoch and, where the cursor
    moves, by the position that the transaction started from. A fence always changes the document. One that was
    only read would not conflict with a takeover, and would stop nobody. (docs/design.md, rule a)
session
    All transactions of a lease use one causally consistent session, and so do its reads, except those of passes
    over large rooms. Its id is in the cursor document, so that the next owner can kill it.
    (docs/design.md, rule d)
heartbeat
    The document of a replica in `room_worker_replicas`, stamped with the database's clock. It is separate from
    the cursors: written into a cursor document, it would conflict with the transactions of the same replica.
    (docs/pitfalls.md, item 31)

Who decides what
----------------
The cursor document alone decides who may write. A lease does not expire: it ends when the epoch rises or the owner
is removed. The owner notices that when its next transaction fails at the fence.

The database's clock alone decides who is alive. A replica without a heartbeat for longer than the lease time (5 s)
is considered dead, and others may take its partitions. If it is alive after all, it loses only its leases. The
clocks of replicas are never compared; they only time pauses and retries.

The site's first start decides into how many partitions the rooms are divided, and from which position all of them
begin (`room_worker_sites`). A start with another number fails with `PartitionsMismatch`.

The life of a partition
-----------------------
::

    no owner, epoch n ──── take ────▶ owner A, epoch n + 1 ──── release ────▶ no owner, epoch n + 1
                                        │
                                        ├── A takes it again, after a failure ──▶ owner A, epoch n + 2
                                        └── B takes it, when A is silent ───────▶ owner B, epoch n + 2

A take kills the session in the cursor document, which aborts the open transaction of the previous owner and
releases its locks. Then one update sets owner and session and increments the epoch, provided that owner and epoch
are still as they were read. Of several replicas that take at once, one succeeds; the others get `LeaseLost`.

What happens on failure
-----------------------
- *The owner dies.* Its heartbeats stop. Another replica takes the partition after the lease time, and recovers
  what the outbox and the staged keys show. Without the kill, the open transaction would keep its locks for more
  than a minute. (docs/pitfalls.md, item 29)
- *The owner pauses and then continues.* Its next transaction fails at the fence: `LeaseLost`. Pages of members are
  read under the lease too, so it does not find members that the new owner has added (`store/reads/members.py`).
- *The answer to a commit is lost.* The transaction may or may not have been committed. The owner takes the
  partition again, under the next epoch, and reads back what is there. (docs/design.md, rule c)
- *The answer to a take is lost.* The document may name this replica and the new session. The session must not be
  ended, because the driver would use its id again. The replica sees itself as the owner and takes again.
- *The database is out of reach.* Nothing can be committed. Replicas that still reach it see the heartbeats of the
  others stop and take their partitions.
- *The broker is out of reach for one replica.* It stops its partitions and its heartbeats, and so leaves them to
  replicas that can deliver.
"""
