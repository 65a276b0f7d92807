"""Whether a partition moves, from looks at its position."""

import pytest

from roomkeys.events.position import SliceProgress, StreamPosition
from tests.unit.worker.test_ability import Clock
from worker.replica.readiness.progress import Progress

HERE = StreamPosition(10, 1_000, 7)
REFUSED = "OperationFailure 13 Unauthorized"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    made = Progress(clock)
    made.look(HERE, is_idle=True)
    return made


def look_for(progress: Progress, clock: Clock, seconds: int, position: StreamPosition | None = HERE) -> None:
    for _ in range(seconds):
        clock.now += 1
        progress.look(position, is_idle=False)


def test_partition_that_waits_for_events_stands_for_no_time(progress: Progress, clock: Clock) -> None:
    for _ in range(100):
        clock.now += 1
        progress.look(HERE, is_idle=True)
    assert progress.problem(5.0) is None
    assert not progress.is_busy


def test_partition_that_has_something_to_do_and_does_not_move_says_why(progress: Progress, clock: Clock) -> None:
    look_for(progress, clock, 1)
    progress.failed(REFUSED, is_refused=True)
    look_for(progress, clock, 4)
    assert progress.problem(5.0) is None
    look_for(progress, clock, 3, None)
    assert progress.problem(5.0) == f"has not moved for 7 s: {REFUSED}"


def test_partition_that_gets_no_answer_says_so(progress: Progress, clock: Clock) -> None:
    look_for(progress, clock, 7)
    assert progress.problem(5.0) == "has not moved for 6 s: MongoDB or NATS is slow, or does not answer"


def test_lease_that_is_taken_again_at_the_same_position_is_no_movement(progress: Progress, clock: Clock) -> None:
    for _ in range(10):
        look_for(progress, clock, 1, None)
        look_for(progress, clock, 1)
    assert progress.problem(5.0) is not None


@pytest.mark.parametrize(
    "moved", [StreamPosition(11, 1_001, 7), StreamPosition(10, 1_000, 7, SliceProgress(1, "m3", True))]
)
def test_next_batch_or_slice_is_movement(progress: Progress, clock: Clock, moved: StreamPosition) -> None:
    look_for(progress, clock, 4)
    progress.failed(REFUSED, is_refused=True)
    look_for(progress, clock, 4, moved)
    assert progress.problem(5.0) is None
    assert (progress.cause, progress.is_refused) == (None, False)
