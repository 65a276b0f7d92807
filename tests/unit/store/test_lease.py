"""How a cursor document says where its partition stands."""

from dataclasses import fields

from roomkeys.events.position import SliceProgress, StreamPosition
from store.leases import lease

SLICE = {"number": 2, "after": "bob", "rotates": True, "founded": True, "told": True}
DOCUMENT = {"_id": "site-a.0", "applied": 7, "appliedNs": 70, "createdNs": 700, "slice": SLICE}
POSITION = StreamPosition(7, 70, 700, SliceProgress(2, "bob", rotates=True, room_created=True, notice_sent=True))


def test_cursor_is_read_with_all_of_its_slice_progress() -> None:
    assert lease.place(DOCUMENT) == POSITION
    assert lease.place(DOCUMENT | {"slice": None}) == StreamPosition(7, 70, 700)


def test_slice_progress_is_stored_whole() -> None:
    assert POSITION.slice is not None
    unset = [field.name for field in fields(SliceProgress) if getattr(POSITION.slice, field.name) == field.default]
    assert unset == [], "the example sets every field"
    assert lease._slice_document(POSITION.slice) == SLICE


def test_unknown_fields_of_a_newer_version_are_ignored_in_a_cursor() -> None:
    newer = DOCUMENT | {"slice": SLICE | {"added_later": 1}, "added_later": 1}
    assert lease.place(newer) == POSITION


def test_fields_that_an_older_version_did_not_write_have_their_defaults() -> None:
    older = DOCUMENT | {"slice": {"number": 2, "after": "bob"}}
    assert lease.place(older) == StreamPosition(7, 70, 700, SliceProgress(2, "bob"))
