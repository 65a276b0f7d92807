"""The outbox stores entries under fixed names, so that versions before and after an update read each other's."""

from dataclasses import fields

from roomkeys.decisions.decision import DeadLetter, MembersNotice, OutboxEntry, Outcome
from roomkeys.errors import ErrorInfo
from roomkeys.events.event import StreamMessage
from roomkeys.membership import Member, Membership

STORED_NAMES: dict[type, tuple[str, ...]] = {
    OutboxEntry: ("room_id", "outcomes", "joiners", "high"),
    Outcome: (
        *("sequence", "operation", "at_ms", "room_id", "requester", "request_id", "site", "error"),
        *("added", "removed", "notice", "letter", "final"),
    ),
    ErrorInfo: ("code", "reason", "text"),
    Membership: (
        *("id", "user_id", "account", "room_id", "site", "roles", "name", "kind", "joined_ms"),
        *("subscribed", "history_from_ms", "title"),
    ),
    Member: ("id", "user_id", "account", "roles"),
    MembersNotice: ("type", "room_name", "room_type", "org", "joined_ms", "history_from_ms"),
    DeadLetter: ("subject", "body", "truncated"),
    StreamMessage: ("sequence", "time_ns", "subject", "body", "request_id"),
}


def test_stored_field_names_are_unchanged() -> None:
    changed = {
        stored.__name__: names
        for stored, expected in STORED_NAMES.items()
        if (names := tuple(field.name for field in fields(stored))) != expected
    }
    assert changed == {}
