"""The rules of the protocol, each of which can be broken to see what it prevents."""

from enum import StrEnum


class Rule(StrEnum):
    """What the worker keeps to; the value says what it does when the rule is broken."""

    FENCE_WRITTEN = "transactions only read the cursor's epoch"
    SURVIVORS_AFTER_KEY = "a staged key goes to the members of before the batch"
    CONFIRMED_FIRST = "a key settles although the broker has not confirmed it"
    STAGED_ONCE = "a second key is staged over one that is on its way"
    WHOLE_EVENTS = "a room settles between the slices of an event"
    RESULTS_WAIT = "results go out although their version has not settled"
    SETTLED_NOT_STAGED = "results go out once their version is staged"
    KEY_BEFORE_PAGES = "the drainer reads a page first and the key after it"
    DECIDED_ONCE = "recovery decides again"
    ALL_RESENT = "recovery resends only what the last batch owes"
    BYTES_KEPT = "recovery makes new bytes for a staged key"
    JOINERS_KEPT = "recovery forgets who joined"
    KEYS_THEN_MEMBERS = "recovery reads members first and keys after them"
    STAGED_TO_JOINERS = "who joins a draining room gets only the current key"
    NEWCOMERS_LEFT_OUT = "the drainer sends to joiners whose notice is not out"
    LEFT_OUT_BEFORE = "newcomers are left out only once the transaction has returned"
    LEFT_OUT_UNTIL_CONFIRMED = "newcomers are let in although their notice is not confirmed"
    NEWCOMERS_ONLY = "the drainer leaves out those, too, who were members before the batch"
    DRAINED_AFTER_NOTICES = "the drainer begins before the batch's notices are confirmed"
    PAGES_UNDER_LEASE = "a pass sends a page without a look at the lease after reading it"
    PLACE_SAVED = "the first slice moves the cursor past its event"
    ROTATION_SAVED = "only the memory knows that an event in slices rotates"
    SLICES_IN_ORDER = "a slice's outbox entry goes before an older one of its room"
    PAGES_CONFIRMED = "a page counts as sent although the connection broke"
    STRIKES_FENCED = "whoever announced an entry strikes it, with the lease or without"
    DOUBT_IS_A_CRASH = "a commit in doubt counts as done"
