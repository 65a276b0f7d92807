"""Denials: how the errors of the broker are read, and what a barrier learns from them."""

import pytest

from worker.broker.permissions.denials import Denial, DeniedKeys, denial_in

QUOTED = {
    "chat.user.Bob.event.room.key": "chat.user.Bob.event.room.key",
    "chat.user.\\\"b'o\\\\b.event.room.key": "chat.user.\"b'o\\b.event.room.key",
    "chat.user.bé\\x01\\u2028.event.room.key": "chat.user.bé\x01\u2028.event.room.key",
    "chat.user.\U0001f600.event.room.key": "chat.user.\U0001f600.event.room.key",
}
"""Subjects as nats-server 2.15 quotes them, and as they were published."""


@pytest.mark.parametrize(("quoted", "subject"), QUOTED.items())
def test_denied_subject_is_read_as_it_was_published(quoted: str, subject: str) -> None:
    denial = denial_in(f"'Permissions Violation for Publish to \"{quoted}\"'")
    assert denial is not None
    assert (denial.subject, denial.kind, denial.is_publish) == (subject, "key", True)
    assert denial.account == subject.split(".")[2]


@pytest.mark.parametrize("queue", ["", ' using queue "q"'])
def test_denied_subscription_has_its_subject_with_and_without_a_queue_group(queue: str) -> None:
    denial = denial_in(f"'Permissions Violation for Subscription to \"foo.*\"{queue}'")
    assert denial is not None
    assert (denial.use, denial.kind) == (("foo.*", False), "subscription")


@pytest.mark.parametrize("error", ["'Maximum Payload Violation'", "'Authorization Violation'", "'Stale Connection'"])
def test_other_errors_are_no_denials(error: str) -> None:
    assert denial_in(error) is None


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("chat.user.a.event.subscription.update", "notice"),
        ("chat.room.r1.event.member", "notice"),
        ("chat.user.a.response.11", "result"),
        ("chat.room.deadletter.s", "dead_letter"),
        ("$JS.API.STREAM.INFO.X", "jetstream"),
        ("_INBOX.a", "other"),
    ],
)
def test_kind_of_a_denial_is_that_of_its_subject(subject: str, kind: str) -> None:
    assert Denial(subject, "").kind == kind


def test_barrier_sees_the_denials_since_it_began_and_no_others() -> None:
    keys = DeniedKeys()
    keys.add("before")
    first = keys.open()
    keys.add("alice")
    second = keys.open()
    keys.add("bob")
    assert keys.since(first) == {"alice", "bob"}
    assert keys.since(second) == {"bob"}
    keys.add("alice")
    assert keys.since(second) == {"alice", "bob"}
    keys.close(first)
    assert keys.since(second) == {"alice", "bob"}
    keys.close(second)
    assert len(keys) == 0


def test_denials_are_kept_only_as_long_as_an_open_barrier_needs_them() -> None:
    keys = DeniedKeys()
    for batch in range(10):
        opened = keys.open()
        for number in range(100):
            keys.add(f"{batch}-{number}")
        next_opened = keys.open()
        keys.close(opened)
        assert len(keys) == 0
        keys.close(next_opened)
