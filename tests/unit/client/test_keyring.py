"""The key ring: the same keys make the same ring, in any order and however often they are added."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.client.keyring import HeldKey, KeyRing, Verdict
from roomkeys.keys import RoomKey


def key(version: int, room_id: str = "r1", *, in_use: bool = True, other: str = "") -> HeldKey:
    return HeldKey(room_id, RoomKey(version, sha256(f"{room_id} {version}{other}".encode()).digest()), in_use)


def contents(ring: KeyRing) -> tuple[dict[str, list[int]], dict[str, int]]:
    return {room_id: ring.versions(room_id) for room_id in ("r1", "r2")}, ring.in_use()


OFFERED = st.lists(st.builds(key, st.integers(0, 9), st.sampled_from(["r1", "r2"]), in_use=st.booleans()), max_size=25)


@given(OFFERED, st.data())
def test_shuffled_and_repeated_keys_make_the_same_ring(offered: list[HeldKey], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(offered), max_size=10)) if offered else []
    shuffled = data.draw(st.permutations([*offered, *again]))
    one, other = KeyRing(versions=4), KeyRing(versions=4)
    for item in offered:
        one.add(item)
    for item in shuffled:
        other.add(item)
    assert contents(one) == contents(other)


@given(OFFERED, st.integers(1, 5))
def test_keys_selected_from_pages_make_the_same_ring_as_single_keys(offered: list[HeldKey], size: int) -> None:
    one, paged = KeyRing(versions=20), KeyRing(versions=20)
    for item in offered:
        one.add(item)
    for start in range(0, len(offered), size):
        fresh, refused = paged.select(offered[start : start + size])
        assert refused == []
        for item in fresh:
            paged.add(item)
    assert contents(one) == contents(paged)


def test_other_bytes_for_a_version_are_refused() -> None:
    ring = KeyRing()
    assert ring.add(key(3)) is Verdict.NEW
    assert ring.add(key(3, other="x")) is Verdict.CONFLICTING
    assert ring.key("r1", 3) == key(3).key
    assert ring.select([key(3, other="x"), key(4), key(4, other="x"), key(4)]) == (
        [key(4)],
        [key(3, other="x"), key(4, other="x")],
    )


def test_no_key_is_in_use_before_one_is_announced() -> None:
    """Before that, all of them may be older keys that were requested."""
    ring = KeyRing()
    ring.add(key(3, in_use=False))
    ring.add(key(5, in_use=False))
    assert (ring.key("r1"), ring.in_use(), ring.versions("r1")) == (None, {}, [3, 5])
    assert ring.add(key(5)) is Verdict.NOW_IN_USE
    assert ring.add(key(5)) is Verdict.NO_CHANGE
    assert (ring.key("r1"), ring.in_use()) == (key(5).key, {"r1": 5})


def test_the_highest_key_is_in_use_even_if_it_was_requested() -> None:
    ring = KeyRing()
    for added in (key(5), key(3), key(4, in_use=False)):
        ring.add(added)
    assert ring.key("r1") == key(5).key
    ring.add(key(7, in_use=False))  # the service returns it only if it is in use, or was
    assert ring.key("r1") == key(7).key


def test_a_room_keeps_only_its_highest_versions() -> None:
    ring = KeyRing(versions=2)
    for version in (1, 2, 3):
        ring.add(key(version))
    assert ring.add(key(1)) is Verdict.NO_CHANGE
    assert (ring.versions("r1"), len(ring)) == ([2, 3], 2)


def test_an_announced_key_that_is_too_old_still_marks_the_room_as_in_use() -> None:
    ring = KeyRing(versions=2)
    for version in (2, 3):
        ring.add(key(version, in_use=False))
    assert ring.add(key(1)) is Verdict.NOW_IN_USE
    assert (ring.versions("r1"), ring.key("r1")) == ([2, 3], key(3).key)


def test_a_ring_must_keep_at_least_one_version() -> None:
    with pytest.raises(ValueError, match="at least one"):
        KeyRing(versions=0)


def test_repr_of_ring_and_key_shows_no_bytes() -> None:
    held = key(1)
    ring = KeyRing()
    ring.add(held)
    shown = f"{ring!r} {held!r} {ring.key('r1')!r}"
    assert shown == (
        "KeyRing(1 rooms, 1 keys) HeldKey(room_id='r1', key=RoomKey(version=1), in_use=True) RoomKey(version=1)"
    )
