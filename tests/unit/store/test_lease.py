"""How a cursor document stores the position of its partition."""

from dataclasses import fields

from roomkeys.events.position import SliceProgress, StreamPosition
from store.leases.lease import _slice_document, read_position

SLICE = {"number": 2, "after": "bob", "rotates": True, "founded": True, "told": True}
DOCUMENT = {"_id": "site-a.0", "applied": 7, "appliedNs": 70, "createdNs": 700, "slice": SLICE}
POSITION = StreamPosition(7, 70, 700, SliceProgress(2, "bob", rotates=True, room_created=True, notice_sent=True))


def test_cursor_is_read_with_its_slice_progress() -> None:
    assert read_position(DOCUMENT) == POSITION
    assert read_position(DOCUMENT | {"slice": None}) == StreamPosition(7, 70, 700)


def test_slice_progress_is_stored_with_all_its_fields() -> None:
    assert POSITION.slice is not None
    unset = [field.name for field in fields(SliceProgress) if getattr(POSITION.slice, field.name) == field.default]
    assert unset == [], "the example sets every field"
    assert _slice_document(POSITION.slice) == SLICE


def test_cursor_fields_of_a_newer_version_are_ignored() -> None:
    newer = DOCUMENT | {"slice": SLICE | {"added_later": 1}, "added_later": 1}
    assert read_position(newer) == POSITION


def test_cursor_fields_missing_from_an_older_version_have_defaults() -> None:
    older = DOCUMENT | {"slice": {"number": 2, "after": "bob"}}
    assert read_position(older) == StreamPosition(7, 70, 700, SliceProgress(2, "bob"))
