"""The checks of results, on recordings written by hand."""

from tests.verification.oracle.example_recordings import ADD, Run, correct_run, create, failed_checks
from tests.verification.oracle.recording import MessageKind


def no_results() -> Run:
    run = correct_run()
    run.recording.messages = [one for one in run.recording.messages if one.kind is not MessageKind.RESULT]
    return run


def test_finds_missing_results() -> None:
    assert failed_checks(no_results()) == {"results_match_the_events"}


def test_finds_ok_instead_of_an_error() -> None:
    run = correct_run()
    last = run.recording.messages.pop()
    run.respond(str(last.request_id), "room.key.rotate", "r9")
    assert failed_checks(run) == {"results_match_the_events"}


def test_finds_wrong_reason() -> None:
    run = correct_run()
    last = run.recording.messages.pop()
    run.respond(str(last.request_id), "room.key.rotate", "r9", "not_found", "user_not_found")
    assert failed_checks(run) == {"results_match_the_events"}


def test_finds_results_that_differ() -> None:
    run = correct_run()
    run.respond(str(run.recording.events[0].request_id), "room.create", "r1", timestamp=77)
    assert "results_match_the_events" in failed_checks(run)


def test_finds_result_before_the_notices() -> None:
    run = Run()
    create(run)
    request_id = run.publish("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.respond(request_id, "room.member.add", "r1")
    run.notify(request_id, "added", "dave")
    run.notify_room(request_id, "r1", "member_added", "dave")
    run.send_key("r1", 0, "dave", timestamp=6)
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    assert "result_is_the_last_message" in failed_checks(run)


def test_finds_first_key_after_the_result() -> None:
    run = Run()
    create(run)
    request_id = run.publish("member.add", ADD)
    run.apply("r1", None, joined="dave")
    run.notify(request_id, "added", "dave")
    run.notify_room(request_id, "r1", "member_added", "dave")
    run.respond(request_id, "room.member.add", "r1")
    run.send_key("r1", 0, "dave", timestamp=6)
    run.end("r1", 0, alice="owner", bob="member", carol="member", dave="member")
    assert failed_checks(run) == {"first_key_comes_before_the_result"}
