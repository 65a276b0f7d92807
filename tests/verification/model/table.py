"""The table of rules: what each rule demands, where the worker follows it, and a scenario that needs it.

`python -m tests.verification.readme` writes it into the README of tests/verification.
"""

from dataclasses import dataclass
from typing import Final

from tests.verification.invariants import Invariant
from tests.verification.model.rules import Rule
from tests.verification.model.scenario import (
    REJECT,
    ROTATE,
    A,
    B,
    C,
    Scenario,
    Size,
    add,
    create_again,
    in_slices,
    remove,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableRow:
    """One rule.

    `design` says where docs/design.md or an ADR states it, and `code` names functions of the worker as
    `module:name`. Without the rule the `scenario` breaks the `invariant`; None: nothing was found to break.
    """

    rule: Rule
    demand: str
    design: str
    code: tuple[str, ...]
    scenario: Scenario
    invariant: Invariant | None


LEFT_AND_CAME_BACK: Final = Scenario((ROTATE, remove(B), add(B)), takeovers=0, conflicts=1)
JOINED_BEFORE_SLICES: Final = Scenario((add(B), ROTATE, in_slices(remove(B, C))), members=(A, C))
CAME_AND_LEFT: Final = Scenario((add(C), remove(C)), size=Size.SMALL, disconnects=1)
FLAPPING: Final = Scenario((ROTATE,), size=Size.SMALL, takeovers=0, outages=2)

TABLE: Final = (
    TableRow(
        Rule.FENCE_IS_WRITTEN,
        "Every transaction writes the cursor document first, filtered by owner and epoch.",
        "rule a",
        ("store.leases.lease:fence",),
        Scenario((remove(B), ROTATE, add(C))),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.SURVIVORS_AFTER_KEY,
        "A staged key goes to the members as they are once it is staged.",
        "The loop, *Staged first, survivors after*; ADR 0010",
        ("worker.pipeline.state.applied_batch:remaining_members", "worker.pipeline.deliver:Publisher.fan_out_keys"),
        Scenario((remove(B),)),
        Invariant.EXCLUSION,
    ),
    TableRow(
        Rule.CONFIRM_BEFORE_SETTLE,
        "A key settles only after a barrier has confirmed everything that was sent.",
        "The loop, *confirm*",
        ("worker.pipeline.loop:Loop._deliver", "worker.broker.connection:Broker.barrier"),
        Scenario((remove(B),), size=Size.SMALL, disconnects=1),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.ONE_STAGED_KEY,
        "While a key is staged, a rotating event only raises `high`.",
        "rule f",
        ("roomkeys.decisions.draft:Draft.change", "roomkeys.keys:KeyRecord.next_to_stage"),
        Scenario((remove(B), ROTATE)),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.NO_SETTLE_BETWEEN_SLICES,
        "A room never settles between the slices of an event.",
        "rule e",
        ("worker.pipeline.state.applied_batch:plan_fanout", "worker.replica.partition:Partition._finish_slices"),
        Scenario((ROTATE, in_slices(remove(B, C))), members=(A, B, C)),
        None,
    ),
    TableRow(
        Rule.RESULTS_AFTER_SETTLE,
        "The results of a large room wait until its key has settled.",
        "The loop, *The outbox*",
        ("worker.pipeline.state.pending_results:PendingResults.defer",),
        Scenario((remove(B),)),
        Invariant.EXCLUSION,
    ),
    TableRow(
        Rule.RESULTS_NOT_AT_STAGE,
        "A result waits until `settled`, not the staged version, has reached the `high` of its batch.",
        "The loop, *The outbox*",
        ("worker.pipeline.state.pending_results:PendingResults.release",),
        Scenario((remove(B),)),
        Invariant.EXCLUSION,
    ),
    TableRow(
        Rule.KEY_BEFORE_PAGES,
        "A pass reads the staged key first and the members after it, in one session.",
        "The loop, *Staged first, survivors after*",
        ("worker.pipeline.rollouts.passes:FanoutPass.run",),
        Scenario((ROTATE, remove(A))),
        Invariant.EXCLUSION,
    ),
    TableRow(
        Rule.DECIDED_ONCE,
        "Recovery delivers what the outbox says and never decides again.",
        "The loop, *Recovery*",
        ("worker.pipeline.loop:Loop.recover", "store.writes.outbox:unfinished"),
        Scenario((add(C),)),
        Invariant.REACH,
    ),
    TableRow(
        Rule.EVERY_ENTRY_RESENT,
        "Recovery delivers every entry of the outbox again.",
        "The loop, *Recovery*",
        ("worker.pipeline.recovery:unfinished",),
        CAME_AND_LEFT,
        None,
    ),
    TableRow(
        Rule.STAGED_BYTES_KEPT,
        "Recovery reads staged keys back and sends these bytes.",
        "rule c",
        ("worker.pipeline.recovery:unfinished", "store.reads.snapshot:load_rooms"),
        Scenario((ROTATE,)),
        Invariant.ONE_KEY_PER_VERSION,
    ),
    TableRow(
        Rule.JOINERS_IN_OUTBOX,
        "The outbox has the accounts that get the current key.",
        "The loop, *The outbox*",
        ("roomkeys.decisions.draft:Draft.joiners", "worker.pipeline.recovery:unfinished"),
        Scenario((add(C),)),
        Invariant.REACH,
    ),
    TableRow(
        Rule.RECOVERY_READS_KEYS_FIRST,
        "Recovery reads the keys first and the members after them.",
        "The loop, *Recovery*; ADR 0002",
        ("worker.pipeline.recovery:unfinished", "store.reads.members:still_members"),
        Scenario((add(C), remove(C)), size=Size.SMALL),
        Invariant.EXCLUSION,
    ),
    TableRow(
        Rule.STAGED_KEY_TO_JOINERS,
        "Joiners of a large room are sent the current key and the staged one.",
        "Large rooms",
        ("worker.pipeline.rollouts.large_rooms:LargeRooms.staged_keys", "worker.pipeline.loop:Loop._deliver"),
        Scenario((ROTATE, add(B)), members=(A, C)),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.JOINERS_EXCLUDED,
        "A pass leaves out accounts whose notice has not gone out; the loop sends them the key.",
        "ADR 0007",
        ("worker.pipeline.rollouts.passes:FanoutPass._send",),
        Scenario((ROTATE, add(C))),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.EXCLUDED_BEFORE_COMMIT,
        "Joiners are excluded before the transaction that makes them members.",
        "ADR 0007",
        ("worker.pipeline.writer:Writer._exclude_joiners", "worker.pipeline.rollouts.large_rooms:LargeRooms.exclude"),
        Scenario((ROTATE, add(C))),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.EXCLUDED_UNTIL_CONFIRMED,
        "Joiners stay excluded until their notice is confirmed.",
        "ADR 0007",
        ("worker.pipeline.loop:Loop._deliver", "worker.pipeline.rollouts.large_rooms:LargeRooms.joiners_notified"),
        Scenario((ROTATE, add(C)), disconnects=1),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.ONLY_NEW_MEMBERS_EXCLUDED,
        "A pass never excludes an account that was a member before the batch.",
        "ADR 0007",
        ("worker.pipeline.writer:Writer._exclude_joiners",),
        LEFT_AND_CAME_BACK,
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.ROLLOUT_AFTER_NOTICES,
        "A rollout begins after the notices of its batch are confirmed.",
        "The loop, *deliver*",
        ("worker.pipeline.loop:Loop._finish",),
        Scenario((remove(B), add(C))),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.PAGES_UNDER_LEASE,
        "The query that reads a page also reads the lease, and a page without it is not sent.",
        "ADR 0007",
        ("store.reads.members:pages",),
        Scenario((remove(B), add(C))),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.SLICE_POSITION_SAVED,
        "Every slice saves its position in the cursor; the last one moves `applied`.",
        "rule e",
        ("store.leases.lease:fence", "worker.pipeline.recovery:partially_applied"),
        Scenario((in_slices(remove(B, C)),), members=(A, B, C)),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.SLICE_ROTATION_SAVED,
        "The cursor says whether the event that is applied in slices rotates its room.",
        "rule e",
        ("roomkeys.decisions.slices:decide_slice",),
        Scenario((in_slices(remove(B, C)),)),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.ENTRIES_DELETED_IN_ORDER,
        "The outbox entries of a room are deleted in order.",
        "The loop, *The outbox*",
        ("worker.pipeline.state.pending_results:PendingResults.release",),
        JOINED_BEFORE_SLICES,
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.PAGES_CONFIRMED,
        "A pass sends a page again unless a barrier has confirmed it.",
        "Large rooms",
        ("worker.pipeline.rollouts.passes:FanoutPass._send",),
        Scenario((ROTATE,), disconnects=1),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.DELETES_FENCED,
        "Outbox entries are deleted in a transaction that writes the fence.",
        "rule a",
        ("store.writes.outbox:delete_finished",),
        CAME_AND_LEFT,
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.DOUBT_IS_A_CRASH,
        "Any doubt about a commit ends the lease; the partition is taken again and recovered.",
        "rule c",
        ("worker.replica.partition:Partition._serve_one_lease", "store.transaction:commit"),
        Scenario((ROTATE, ROTATE), size=Size.SMALL, max_batch=1),
        Invariant.ONE_KEY_PER_VERSION,
    ),
    TableRow(
        Rule.EVENT_SET_ASIDE_IN_ONE,
        "The transaction that moves the cursor past an event of a set-aside room stores the event.",
        "Set-aside rooms",
        ("store.writes.waiting:set_aside", "store.writes.apply:apply"),
        Scenario((remove(B), ROTATE), size=Size.SMALL, outages=1),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.LATER_EVENTS_WAIT,
        "While an event of a room waits, all later events of the room wait behind it.",
        "Set-aside rooms",
        ("worker.pipeline.writer:Writer.apply_batch", "worker.pipeline.failures.set_aside:SetAside.stored"),
        Scenario((remove(B), add(B)), size=Size.SMALL, takeovers=0, outages=1),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.WAITING_EVENTS_READ_BACK,
        "A new owner reads which events wait before it takes others.",
        "Set-aside rooms",
        ("worker.pipeline.loop:Loop.recover", "store.writes.waiting:read_waiting"),
        Scenario((remove(B), add(B)), size=Size.SMALL, outages=1),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.WAITING_EVENT_DELETED_IN_ONE,
        "The transaction that writes the effects of an event that waits deletes it.",
        "Set-aside rooms",
        ("worker.pipeline.writer:Writer._apply", "worker.pipeline.failures.set_aside:SetAside.ids_of"),
        Scenario((ROTATE,), size=Size.SMALL, outages=1),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.CONTROL_COMES_FIRST,
        "A failure counts against an event only if a control transaction was committed just before it.",
        "Blame",
        ("worker.pipeline.failures.blame:Blame.retry", "worker.pipeline.failures.control:rehearse_twin"),
        FLAPPING,
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.VERDICT_IS_DROPPED,
        "If the control transaction or the rejection after a failure is refused, the event is tried first again.",
        "Blame",
        ("worker.pipeline.failures.blame:Blame._failed_again",),
        FLAPPING,
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.VERSIONS_OUTLIVE_ROOM,
        "A room that is created again begins above every version that its partition has used.",
        "ADR 0018",
        ("roomkeys.decisions.draft:Draft.begin_versions", "store.leases.lease:fence"),
        Scenario((create_again(A, B),), size=Size.SMALL, takeovers=0),
        Invariant.ONE_KEY_PER_VERSION,
    ),
    TableRow(
        Rule.DENIED_IS_UNCONFIRMED,
        "A key that the broker denied to every member of a room is not confirmed: a rollout sends it again.",
        "Denials; ADR 0016",
        ("worker.broker.connection:Broker.barrier", "worker.pipeline.state.applied_batch:FanoutPlan.given_denials"),
        Scenario((remove(B),), size=Size.SMALL, denials=1),
        Invariant.HOLD_BEFORE_USE,
    ),
    TableRow(
        Rule.DENIED_JOINERS_WAIT,
        "While keys are denied to everybody, joiners wait for the current key, and results for the joiners.",
        "Denials; ADR 0016",
        ("worker.pipeline.rollouts.large_rooms:LargeRooms.owe", "worker.pipeline.rollouts.passes:JoinerPass.run"),
        Scenario((add(C),), size=Size.SMALL, denials=1),
        Invariant.REACH,
    ),
    TableRow(
        Rule.LETTER_IN_OUTBOX,
        "The transaction of a batch stores its dead letters.",
        "Dead letters; ADR 0019",
        ("store.writes.apply:apply", "store.writes.letters:letters_of"),
        Scenario((REJECT,), size=Size.SMALL),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.LETTER_APART,
        "An outbox entry does not wait for its dead letters, which have separate documents.",
        "Dead letters; ADR 0019",
        ("store.writes.letters:without_letters",),
        Scenario((add(C), REJECT, remove(C)), size=Size.SMALL, max_batch=2),
        Invariant.ORDER_ONCE,
    ),
    TableRow(
        Rule.LETTER_TAKEN_BEFORE_DELETED,
        "A dead letter is deleted once its stream has acknowledged it.",
        "Dead letters; ADR 0019",
        ("worker.pipeline.letters.sender:DeadLetters._send",),
        Scenario((REJECT,), size=Size.SMALL),
        Invariant.ORDER_ONCE,
    ),
)

NEEDED: Final = {row.rule: row for row in TABLE if row.invariant is not None}
"""Rules that something needs."""

SPARE: Final = {row.rule: row for row in TABLE if row.invariant is None}
"""Rules without which no violation was found: they make the worker simpler, or another rule covers them."""
