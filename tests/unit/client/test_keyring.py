"""The key ring: any order, any number of times, from any source, it ends the same."""

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


OFFERED = st.lists(
    st.builds(key, st.integers(0, 9), st.sampled_from(["r1", "r2"]), in_use=st.booleans()), max_size=25
)


@given(OFFERED, st.data())
def test_keys_shuffled_and_doubled_make_the_same_ring(offered: list[HeldKey], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(offered), max_size=10)) if offered else []
    shuffled = data.draw(st.permutations([*offered, *again]))
    one, other = KeyRing(versions=4), KeyRing(versions=4)
    for item in offered:
        one.hold(item)
    for item in shuffled:
        other.hold(item)
    assert contents(one) == contents(other)


@given(OFFERED, st.integers(1, 5))
def test_pages_make_the_same_ring_as_single_keys(offered: list[HeldKey], size: int) -> None:
    one, paged = KeyRing(versions=20), KeyRing(versions=20)
    for item in offered:
        one.hold(item)
    for start in range(0, len(offered), size):
        fresh, refused = paged.sift(offered[start : start + size])
        assert refused == []
        for item in fresh:
            paged.hold(item)
    assert contents(one) == contents(paged)


def test_other_bytes_for_a_version_are_refused_and_change_nothing() -> None:
    ring = KeyRing()
    assert ring.hold(key(3)) is Verdict.NEW
    assert ring.hold(key(3, other="x")) is Verdict.ANOTHER
    assert ring.key("r1", 3) == key(3).key
    assert ring.sift([key(3, other="x"), key(4), key(4, other="x"), key(4)]) == (
        [key(4)],
        [key(3, other="x"), key(4, other="x")],
    )


def test_no_key_is_in_use_before_one_was_announced_as_that() -> None:
    """Until then they may all be old ones that were asked for."""
    ring = KeyRing()
    ring.hold(key(3, in_use=False))
    ring.hold(key(5, in_use=False))
    assert (ring.key("r1"), ring.in_use(), ring.versions("r1")) == (None, {}, [3, 5])
    assert ring.hold(key(5)) is Verdict.IN_USE
    assert ring.hold(key(5)) is Verdict.KNOWN
    assert (ring.key("r1"), ring.in_use()) == (key(5).key, {"r1": 5})


def test_the_key_in_use_is_the_highest_and_an_old_one_that_is_asked_for_is_not() -> None:
    ring = KeyRing()
    for held in (key(5), key(3), key(4, in_use=False)):
        ring.hold(held)
    assert ring.key("r1") == key(5).key
    ring.hold(key(7, in_use=False))  # it is given only if it is in use, or was: its announcement was missed
    assert ring.key("r1") == key(7).key


def test_a_room_keeps_its_highest_versions_only() -> None:
    ring = KeyRing(versions=2)
    for version in (1, 2, 3):
        ring.hold(key(version))
    assert ring.hold(key(1)) is Verdict.TOO_OLD
    assert (ring.versions("r1"), len(ring)) == ([2, 3], 2)


def test_a_key_that_is_not_kept_still_tells_that_the_highest_is_in_use() -> None:
    ring = KeyRing(versions=2)
    for version in (2, 3):
        ring.hold(key(version, in_use=False))
    assert ring.hold(key(1)) is Verdict.IN_USE
    assert (ring.versions("r1"), ring.key("r1")) == ([2, 3], key(3).key)


def test_a_ring_keeps_something() -> None:
    with pytest.raises(ValueError, match="at least one"):
        KeyRing(versions=0)


def test_neither_ring_nor_key_show_their_bytes() -> None:
    held = key(1)
    ring = KeyRing()
    ring.hold(held)
    shown = f"{ring!r} {held!r} {ring.key('r1')!r}"
    assert shown == (
        "KeyRing(1 rooms, 1 keys) HeldKey(room_id='r1', key=RoomKey(version=1), in_use=True) RoomKey(version=1)"
    )
