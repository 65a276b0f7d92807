"""Who is left: what is computed from a room's members and a decision is what the database holds after it."""

from dataclasses import replace
from itertools import count

import pytest
from bson.code import Code
from hypothesis import given, settings
from hypothesis import strategies as st

from roomkeys.decisions.decide import decide
from roomkeys.decisions.decision import Decision, RoomChange
from roomkeys.decisions.snapshot import Snapshot
from roomkeys.membership import Room
from store.reads.needs import needs_of
from tests.unit.builders import NOW, SITE
from tests.unit.decisions.scripts import USERS, Initial, Step, rooms_before, streams
from tests.unit.decisions.test_decide_model import batches
from tests.unit.decisions.world import World
from worker.pipeline.state.applied_batch import remaining_members


@settings(max_examples=500, deadline=None)  # a busy machine is no failure
@given(rooms_before, streams, st.sampled_from([5_000, 4, 1]))
def test_survivors_are_the_members_after_the_batch(
    before: tuple[Initial | None, ...], stream: list[Step], most: int
) -> None:
    world = World([room.for_world() for room in before if room is not None], USERS)
    numbers = count(1)
    for batch, settles in batches(stream):
        rest = batch
        while rest:
            everybody = {
                room_id: list(stored.accounts())
                for room_id, stored in world.rooms.items()
                if room_id in needs_of(rest).rotating
            }
            snapshot = replace(world.snapshot(rest), everybody=everybody)
            new_id = lambda: f"new-{next(numbers)}"  # noqa: E731 - one more number each time
            decision = decide(rest, snapshot, site=SITE, now_ms=NOW, new_id=new_id, most=most)
            world.apply(decision)
            for room_id, accounts in remaining_members(decision, snapshot).items():
                assert sorted(map(str, accounts)) == sorted(world.rooms[room_id].accounts())
            rest = rest[decision.taken :]
        if settles:
            world.settle()


@pytest.mark.parametrize("strange", [None, 5, 5.5, b"x", {"a": 1}, ["alice"], Code("carol")], ids=repr)
def test_what_is_no_account_stays_for_the_frame_to_refuse(strange: object) -> None:
    room = Room("r1", "n", "channel", SITE)
    snapshot = Snapshot(rooms={"r1": room}, everybody={"r1": ["alice", "bob", strange]})
    decision = Decision(1, (RoomChange(room, left=("bob",), high=1, stage=1),), ())
    assert remaining_members(decision, snapshot) == {"r1": ["alice", strange]}
