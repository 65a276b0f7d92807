"""The rules of the protocol. A search can leave out any of them, to show what it prevents."""

from enum import StrEnum


class Rule(StrEnum):
    """What the worker keeps to; the value says what happens when the rule is left out.

    `table.py` says what each rule demands, where the worker does it, and in which scenario it is needed.
    """

    FENCE_IS_WRITTEN = "Transactions only read the epoch of the cursor."
    SURVIVORS_AFTER_KEY = "A staged key goes to the members from before the batch."
    CONFIRM_BEFORE_SETTLE = "A key settles although the broker has not confirmed it."
    ONE_STAGED_KEY = "A batch stages a key although another one of the room is staged."
    NO_SETTLE_BETWEEN_SLICES = "A room settles between the slices of an event."
    RESULTS_AFTER_SETTLE = "Results go out although their version has not settled."
    RESULTS_NOT_AT_STAGE = "Results go out once their version is staged."
    KEY_BEFORE_PAGES = "A pass reads a page of members first and the staged key after it."
    DECIDED_ONCE = "Recovery decides the batch again."
    EVERY_ENTRY_RESENT = "Recovery resends only the entry of the last batch."
    STAGED_BYTES_KEPT = "Recovery makes new bytes for a staged key."
    JOINERS_IN_OUTBOX = "Recovery does not know who joined."
    RECOVERY_READS_KEYS_FIRST = "Recovery reads the members first and the keys after them."
    STAGED_KEY_TO_JOINERS = "Joiners of a large room get only the current key while another one is staged."
    JOINERS_EXCLUDED = "A pass sends the key to joiners whose notice has not gone out."
    EXCLUDED_BEFORE_COMMIT = "Joiners are excluded only after the transaction has returned."
    EXCLUDED_UNTIL_CONFIRMED = "Joiners are no longer excluded although their notice is not confirmed."
    ONLY_NEW_MEMBERS_EXCLUDED = "A pass also excludes joiners who were members before the batch."
    ROLLOUT_AFTER_NOTICES = "A rollout begins before the notices of its batch are confirmed."
    PAGES_UNDER_LEASE = "A pass sends a page that it has read without checking the lease."
    SLICE_POSITION_SAVED = "The first slice moves the cursor past its event."
    SLICE_ROTATION_SAVED = "Only memory knows that an event in slices rotates."
    ENTRIES_DELETED_IN_ORDER = "The outbox entry of a slice is deleted before an older entry of its room."
    PAGES_CONFIRMED = "A page counts as sent although the connection broke."
    DELETES_FENCED = "A worker deletes the entries that it has announced, with or without the lease."
    DOUBT_IS_A_CRASH = "A commit in doubt counts as done."
    EVENT_SET_ASIDE_IN_ONE = "The cursor passes an event, and only memory knows that it waits."
    LATER_EVENTS_WAIT = "Later events of a room that is set aside take effect before those that wait."
    WAITING_EVENTS_READ_BACK = "A new owner does not read which events wait."
    WAITING_EVENT_DELETED_IN_ONE = "An event that waits is deleted after the transaction of its effects."
    CONTROL_COMES_FIRST = "An event is tried again without a control transaction before it."
    VERDICT_IS_DROPPED = "The verdict on an event stays although the rejection could not be written."
    VERSIONS_OUTLIVE_ROOM = "A room that is deleted and created again begins with version 0."
    DENIED_IS_UNCONFIRMED = "A key that the broker denied to every member counts as sent."
    DENIED_JOINERS_WAIT = "Results do not wait for joiners to whom the current key was denied."
    LETTER_IN_OUTBOX = "Only memory knows that a dead letter is owed."
    LETTER_APART = "An outbox entry stays until its dead letter is in the stream."
    LETTER_TAKEN_BEFORE_DELETED = "A dead letter is deleted before the stream has taken it."
