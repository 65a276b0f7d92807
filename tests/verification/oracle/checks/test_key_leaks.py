"""The checks of key leaks, on recordings and log files written by hand."""

from pathlib import Path

import pytest

from tests.verification.invariants import Invariant
from tests.verification.oracle.checks.key_leaks import leaks_in_files
from tests.verification.oracle.example_recordings import correct_run, failed_checks, key
from tests.verification.oracle.known_keys import spellings


def test_finds_key_in_a_notice() -> None:
    run = correct_run()
    run.receive("chat.room.r1.event.other", {"text": key("r1", 1).hex()})
    assert "no_message_has_a_key" in failed_checks(run)


def test_finds_key_in_a_dead_letter() -> None:
    run = correct_run()
    run.dead_letter(4, "not_found", "room_not_found", Extra="x" + key("r1", 1).hex())
    assert "no_message_has_a_key" in failed_checks(run)


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("spelling", spellings(key("r1", 1)))
def test_finds_every_spelling_of_a_key_at_every_position(spelling: bytes, at: int, tmp_path: Path) -> None:
    run = correct_run()
    log = tmp_path / "worker.log"
    log.write_bytes(b"first line\n" + b"." * at + spelling + b" and more\n")
    assert [one.invariant for one in leaks_in_files(run.recording, [log])] == [Invariant.NO_KEY_LEAKS]
    log.write_bytes(b"first line\n" + spelling[1:-1] + b" and more\n")
    assert leaks_in_files(run.recording, [log]) == []
