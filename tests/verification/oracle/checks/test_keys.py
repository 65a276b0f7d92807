"""The checks of keys, versions and payloads, on recordings written by hand."""

from tests.verification.oracle.example_recordings import ROTATE, Run, correct_run, create, failed_checks, key
from tests.verification.oracle.judge import find_violations
from tests.verification.oracle.key_messages import PROBE
from tests.verification.oracle.known_keys import digest
from tests.verification.oracle.recording import ChangeKind

OTHER_KEY = b"x" * 32


def version_with_two_keys() -> Run:
    run = correct_run()
    run.send_key("r1", 1, "alice", secret=OTHER_KEY, timestamp=9)
    return run


def test_finds_version_with_two_keys_in_payloads() -> None:
    assert failed_checks(version_with_two_keys()) == {"one_key_per_version"}


def test_finds_version_with_another_key_in_the_database() -> None:
    run = correct_run()
    run.recording.stored_keys.add(("r1", 1, digest(OTHER_KEY)))
    assert failed_checks(run) == {"one_key_per_version"}


def test_finds_two_versions_with_one_key() -> None:
    run = correct_run()
    run.recording.stored_keys.add(("r1", 7, digest(key("r1", 1))))
    assert failed_checks(run) == {"one_version_per_key"}


def test_finds_version_that_comes_back() -> None:
    run = correct_run()
    run.settle("r1", 0)
    assert "versions_rise" in failed_checks(run)


def test_finds_highest_version_that_falls() -> None:
    run = correct_run()
    run.commit((ChangeKind.HIGH, "r1", 0))
    assert failed_checks(run) == {"versions_rise"}


def test_finds_payload_with_an_extra_field() -> None:
    run = correct_run()
    run.send_key("r1", 1, "alice", extra=1)
    assert "payloads_are_well_formed" in failed_checks(run)


def test_empty_message_counts_as_payload_except_to_the_account_of_a_probe() -> None:
    recording = correct_run().recording
    before = len(recording.key_messages)
    recording.key_messages.add(PROBE, b"", 1, recording.known_keys)
    assert len(recording.key_messages) == before
    recording.key_messages.add("alice", b"", 1, recording.known_keys)
    assert len(recording.key_messages) == before + 1
    assert not recording.key_messages.payloads[-1].well_formed


def test_finds_fan_out_with_one_payload_per_recipient() -> None:
    run = Run()
    create(run)
    request_id = run.publish("key.rotate", ROTATE)
    run.apply("r1", 1)
    for timestamp, account in enumerate(("alice", "bob", "carol")):
        run.send_key("r1", 1, account, timestamp=timestamp)
    run.settle("r1", 1)
    run.respond(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    assert failed_checks(run) == {"one_payload_reaches_all"}


def test_accepts_another_timestamp_after_a_crash() -> None:
    run = Run()
    create(run)
    request_id = run.publish("key.rotate", ROTATE)
    run.apply("r1", 1)
    run.send_key("r1", 1, "alice", timestamp=5)
    run.send_key("r1", 1, "alice", "bob", "carol", timestamp=6)
    run.settle("r1", 1)
    run.respond(request_id, "room.key.rotate", "r1")
    run.end("r1", 1, alice="owner", bob="member", carol="member")
    assert find_violations(run.recording) == []


def test_accepts_one_key_for_two_rotations_of_one_batch() -> None:
    run = Run()
    create(run)
    requests = [run.publish("key.rotate", ROTATE) for _ in range(2)]
    run.apply("r1", 2)
    run.send_key("r1", 2, "alice", "bob", "carol")
    run.settle("r1", 2)
    for request_id in requests:
        run.respond(request_id, "room.key.rotate", "r1")
    run.end("r1", 2, alice="owner", bob="member", carol="member")
    assert find_violations(run.recording) == []


def test_violations_and_recordings_show_no_key() -> None:
    run = version_with_two_keys()
    search = run.recording.known_keys.search()
    assert len(run.recording.known_keys) == 3
    for violation in find_violations(run.recording):
        assert not search.found_in(repr(violation).encode())
    assert not search.found_in(repr(run.recording).encode())
