"""Leases: which replica may write for which partition, and how far each partition has come.

docs/glossary.md defines lease, epoch, cursor, fence and causal session. An owner is the id of one running process
and is never used again. All transactions and reads of a lease use its session, except the passes over large rooms;
the next owner kills it by its id in the cursor document. (docs/design.md, rules a and d)

Which partitions a replica should own is decided in `worker/replica/shares.py`.

Who decides what
----------------
The cursor document alone decides who may write. A lease does not expire: it ends when the epoch rises or the owner
is removed, and its owner notices that when its next transaction fails at the fence.

The database's clock alone decides who is alive: after the lease time (5 s) without a heartbeat, others may take a
replica's partitions. The clocks of replicas are never compared; they only time pauses and retries.

The site's first start fixes the number of partitions and where all of them begin (`room_worker_sites`).

A take kills the session in the cursor document, which aborts the previous owner's open transaction and releases
its locks. Then one update sets owner and session and increments the epoch, provided that owner and epoch are still
as they were read. Of several replicas that take at once, one succeeds; the others get `LeaseLost`.

What happens on failure
-----------------------
- *The owner dies.* Another replica takes the partition after the lease time, and recovers what the outbox and the
  staged keys show. (docs/pitfalls.md, item 29)
- *The owner pauses and then continues.* Its next transaction, and its next page of members, fail: `LeaseLost`.
- *The answer to a commit is lost.* The owner takes the partition again and reads back what was committed.
  (docs/design.md, rule c)
- *The answer to a take is lost.* The replica sees itself as the owner and takes again. It must not end the new
  session, because the driver would use its id again.
- *The database is out of reach.* Replicas that still reach it take the partitions.
- *One replica cannot read the stream, or the database refuses what it writes.* Its heartbeat says so. After a lease
  time, the other replicas take its partitions, if one of them is able. If none is, every replica keeps its own.
- *A cursor is deleted.* Its owner writes it again from memory. A cursor that nobody owned is not created again: its
  events would be applied twice. The replicas are not ready and name it.
"""
