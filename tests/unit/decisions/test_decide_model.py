"""Wherever a stream is cut into batches, it comes to what its events come to one at a time."""

from collections.abc import Iterator
from itertools import count

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from roomkeys.decisions.decide import decide
from roomkeys.decisions.decision import Outcome
from roomkeys.events.event import AnyEvent
from tests.unit.builders import NOW, SITE, STREAM_MS, decode_body
from tests.unit.decisions.model import Model, ModelOutcome, ModelRoom
from tests.unit.decisions.scripts import BOTS, USERS, Command, Initial, Step, rooms_before, streams
from tests.unit.decisions.world import StoredRoom, World


@settings(max_examples=1_500, deadline=None, derandomize=False, print_blob=True)
@given(rooms_before, streams, st.sampled_from([5_000, 5_000, 5_000, 4, 1]))
def test_batches_come_to_what_the_model_says_however_the_stream_is_cut(
    before: tuple[Initial | None, ...], stream: list[Step], most_accounts: int
) -> None:
    """`World` also asserts that versions rise, ids are unique and joiners are members after the batch."""
    existing = [room for room in before if room is not None]
    world = World([room.for_world() for room in existing], USERS)
    model = Model({room.id: room.for_model() for room in existing}, people(), SITE)

    expected = [expected_outcome(model, step.command) for step in stream]
    outcomes = list(play(world, stream, most_accounts))

    assert [model_outcome(outcome) for outcome in outcomes] == expected
    assert {room_id: as_model(stored) for room_id, stored in world.rooms.items()} == model.rooms
    for stored in world.rooms.values():
        assert_counts_are_right(stored)
        assert_members_hold_the_current_key(stored)


def people() -> dict[str, frozenset[str]]:
    return {user.account: user.orgs for user in USERS}


def expected_outcome(model: Model, command: Command) -> ModelOutcome:
    if command.refusal is not None:
        return ModelOutcome(error=command.refusal)
    return model.apply(command.suffix, command.body, STREAM_MS)


def play(world: World, stream: list[Step], most_accounts: int) -> Iterator[Outcome]:
    """Decide and apply the messages batch by batch; yield their outcomes in stream order."""
    numbers = count(1)
    for batch, settles in batches(stream):
        rest = batch
        while rest:
            decision = decide(
                rest,
                world.snapshot(rest),
                site=SITE,
                now_ms=NOW,
                new_id=lambda: f"new-{next(numbers)}",
                most=most_accounts,
            )
            assert 1 <= decision.taken <= len(rest)
            world.apply(decision)
            outcomes = [outcome for entry in decision.entries for outcome in entry.outcomes]
            assert len(outcomes) == decision.taken
            yield from sorted(outcomes, key=lambda outcome: outcome.sequence)
            rest = rest[decision.taken :]
            if settles:
                world.settle()
    while any(stored.staged is not None for stored in world.rooms.values()):
        world.settle()


def batches(stream: list[Step]) -> Iterator[tuple[list[AnyEvent], bool]]:
    """Yield batches, and whether staged keys settle after each decision about them."""
    batch: list[AnyEvent] = []
    for sequence, step in enumerate(stream):
        if step.cut:
            yield batch, step.settles
            batch = []
        event = decode_body(step.command.suffix, orjson.dumps(step.command.body), sequence=sequence)
        assert event is not None
        batch.append(event)
    yield batch, True


def model_outcome(outcome: Outcome) -> ModelOutcome:
    return ModelOutcome(
        error=(outcome.error.code, outcome.error.reason) if outcome.error else None,
        added=frozenset(membership.account for membership in outcome.added),
        removed=frozenset(member.account for member in outcome.removed),
        notice=outcome.notice.type if outcome.notice else None,
    )


def as_model(stored: StoredRoom) -> ModelRoom:
    """Return a stored room as the model has it: reasons by account, and a role as one word."""
    members = stored.accounts()
    return ModelRoom(
        kind=stored.room.kind,
        site=stored.room.site,
        members={account: member.roles[0] if member.roles else None for account, member in members.items()},
        orgs=set(stored.ids("org")),
        individuals={id_.removeprefix("u-") for id_ in stored.ids("individual")},
        version=stored.keys().highest_seen,
        has_key=stored.keys().current is not None,
    )


def assert_counts_are_right(stored: StoredRoom) -> None:
    bots = sum(account in BOTS for account in stored.accounts())
    assert (stored.people, stored.bots) == (len(stored.members) - bots, bots)


def assert_members_hold_the_current_key(stored: StoredRoom) -> None:
    current = stored.keys().current
    if current is not None:
        for account in stored.accounts():
            assert current.version in stored.sent.get(account, set()), account
