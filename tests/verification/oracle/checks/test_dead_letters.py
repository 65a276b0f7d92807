"""The check of dead letters, on recordings written by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.verification.oracle.example_recordings import Run, correct_run, failed_checks


def missing(run: Run) -> None:
    run.recording.dead_letters.clear()


def twice(run: Run) -> None:
    run.recording.dead_letters *= 2


def of_an_event_that_succeeded(run: Run) -> None:
    run.dead_letter(2, "not_found", "user_not_found")


def with_another_reason(run: Run) -> None:
    run.recording.dead_letters.clear()
    run.dead_letter(4, "not_found", "user_not_found")


def with_another_body(run: Run) -> None:
    run.recording.dead_letters[0] = replace(run.recording.dead_letters[0], body=b"{}")


@pytest.mark.parametrize("change", [missing, twice, of_an_event_that_succeeded, with_another_reason, with_another_body])
def test_finds_dead_letter_that_differs_from_the_events(change: Callable[[Run], None]) -> None:
    run = correct_run()
    change(run)
    assert failed_checks(run) == {"dead_letters_match_the_events"}
