"""An event that is applied in slices comes to what it comes to when it is applied at once."""

from copy import deepcopy
from dataclasses import replace
from itertools import count

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from roomkeys.decisions.decide import decide
from roomkeys.decisions.decision import MEMBER_LEFT, MEMBER_REMOVED, Decision, MembersNotice, Outcome
from roomkeys.decisions.slices import EventSlice, Sliceable, SliceDecision, decide_slice
from roomkeys.errors import INTERNAL_ERROR
from roomkeys.events.event import AnyEvent, InvalidEvent, Remove, Rotate
from roomkeys.events.position import SliceProgress
from roomkeys.membership import Kind
from roomkeys.tokens import is_bot
from tests.unit.builders import NOW, SITE, add, decode_body, remove
from tests.unit.decisions.scripts import USERS, Command, Initial, adds, creates, org_removes, removes, rooms_before
from tests.unit.decisions.test_decide_model import (
    as_model,
    assert_counts_are_right,
    assert_members_hold_the_current_key,
    model_outcome,
)
from tests.unit.decisions.world import World

NUMBERS = count(1)


def new_id() -> str:
    return f"slice-{next(NUMBERS)}"


@settings(max_examples=1_000, deadline=None)
@given(rooms_before, st.one_of(creates, adds, removes, org_removes), st.sampled_from([1, 2, 3]))
def test_slices_come_to_what_the_event_comes_to_at_once(
    before: tuple[Initial | None, ...], command: Command, most: int
) -> None:
    event = sliceable(decode_body(command.suffix, orjson.dumps(command.body)))
    assume(event is not None)
    assert event is not None
    sliced = World([room.for_world() for room in before if room is not None], USERS)
    whole = deepcopy(sliced)

    decision = decide([event], whole.snapshot([event]), site=SITE, now_ms=NOW, new_id=new_id)
    whole.apply(decision)
    outcomes = play(sliced, event, most)
    for world in (whole, sliced):
        world.settle()

    assert merged(outcomes) == merged([decision.entries[0].outcomes[0]])
    assert [outcome.final for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
    assert notices(outcomes) == notices([decision.entries[0].outcomes[0]])
    for room_id, stored in whole.rooms.items():
        assert as_model(sliced.rooms[room_id]) == as_model(stored)
        assert sliced.rooms[room_id].sent == stored.sent, "the same accounts are sent the same versions"
        assert_counts_are_right(sliced.rooms[room_id])
        assert_members_hold_the_current_key(sliced.rooms[room_id])
    assert sliced.rooms.keys() == whole.rooms.keys()


def sliceable(event: AnyEvent | None) -> Sliceable | None:
    if event is None or isinstance(event, InvalidEvent | Rotate):
        return None
    return None if getattr(event, "kind", Kind.CHANNEL) != Kind.CHANNEL else event


def play(world: World, event: Sliceable, most: int) -> list[Outcome]:
    """Apply the event slice by slice and return the outcomes."""
    outcomes: list[Outcome] = []
    state: SliceProgress | None = SliceProgress()
    unknown = first_unknown(world, event)
    while state is not None:
        accounts = touched(world, event, state.after)
        more = len(accounts) > most
        some = accounts[:most]
        decided = one_slice(world, event, some, state, last=not more, unknown=unknown)
        outcomes += [outcome for entry in decided.decision.entries for outcome in entry.outcomes]
        assert decided.next is None or (decided.next.number, decided.next.after) == (state.number + 1, some[-1])
        state = decided.next
    return outcomes


def one_slice(
    world: World, event: Sliceable, accounts: list[str], state: SliceProgress, *, last: bool, unknown: str | None
) -> SliceDecision:
    snapshot = world.snapshot([event])
    slice_ = EventSlice(event, state, accounts, is_last=last, unknown_account=unknown)
    decided = decide_slice(slice_, snapshot, site=SITE, now_ms=NOW, new_id=new_id)
    assert decided.next is None or all(change.stage is None for change in decided.decision.changes)
    world.apply(decided.decision)
    return decided


def touched(world: World, event: Sliceable, after: str) -> list[str]:
    """Return, in order, the accounts after `after` that the event touches."""
    orgs = {event.org} if isinstance(event, Remove) else set(event.orgs)
    accounts = set(event.accounts) | {user.account for user in world.users.values() if user.orgs & orgs}
    stored = world.rooms.get(event.room_id)
    if not isinstance(event, Remove) and orgs and stored is not None and not stored.ids("org"):
        accounts |= stored.accounts().keys()
    return sorted(account for account in accounts if account > after)


def first_unknown(world: World, event: Sliceable) -> str | None:
    stored = world.rooms.get(event.room_id)
    known: set[str] = {*world.users, *(stored.accounts() if stored is not None and isinstance(event, Remove) else ())}
    named = (account for account in event.accounts if isinstance(event, Remove) or not is_bot(account))
    return next((account for account in named if account not in known), None)


def merged(outcomes: list[Outcome]) -> object:
    """Return the outcomes of all slices as one."""
    end = model_outcome(outcomes[-1])
    return replace(
        end,
        added=frozenset[str]().union(*(model_outcome(outcome).added for outcome in outcomes)),
        removed=frozenset[str]().union(*(model_outcome(outcome).removed for outcome in outcomes)),
        notice=next((kind_of_notice(outcome.notice) for outcome in outcomes if outcome.notice), None),
    )


def notices(outcomes: list[Outcome]) -> set[tuple[str, str | None]]:
    return {(kind_of_notice(outcome.notice), outcome.notice.org) for outcome in outcomes if outcome.notice}


def kind_of_notice(notice: MembersNotice) -> str:
    """Return the type of a notice, with `member_left` as `member_removed`: a slice cannot see other leavers."""
    return MEMBER_REMOVED if notice.type == MEMBER_LEFT else notice.type


def test_event_given_up_after_a_removing_slice_still_rotates() -> None:
    world = World([room_of("alice", "bob", "carol").for_world()], USERS)
    event = sliceable(remove("bob", "carol"))
    assert event is not None
    begun = one_slice(world, event, ["bob"], SliceProgress(), last=False, unknown=None).next
    assert begun is not None
    assert begun.rotates
    snapshot = world.snapshot([event])
    last = EventSlice(event, begun)
    end = decide_slice(last, snapshot, site=SITE, now_ms=NOW, new_id=new_id, error=INTERNAL_ERROR)
    assert end.next is None
    assert [change.stage for change in end.decision.changes] == [3]
    assert error_of(end.decision) == "internal"


def test_unknown_account_of_a_later_slice_fails_the_first_slice() -> None:
    world = World([room_of("alice").for_world()], USERS)
    event = sliceable(add("bob", "nobody"))
    assert event is not None
    end = one_slice(world, event, ["bob"], SliceProgress(), last=False, unknown="nobody")
    assert (end.next, end.decision.changes, error_of(end.decision)) == (None, (), "not_found")


def room_of(*members: str) -> Initial:
    none = frozenset[str]()
    return Initial("r1", "channel", SITE, none, frozenset(members), none, none, "ours", 2)


def error_of(decision: Decision) -> str | None:
    (entry,) = decision.entries
    (outcome,) = entry.outcomes
    assert outcome.final
    return None if outcome.error is None else outcome.error.code
