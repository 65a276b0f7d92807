"""The key ring: any order, any number of times, from any source, it ends the same."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from roomkeys.keyring import HeldKey, KeyRing, Verdict
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


def test_the_key_in_use_is_the_highest_that_came_as_such() -> None:
    ring = KeyRing()
    assert ring.key("r1") is None
    ring.hold(key(5))
    ring.hold(key(3))
    ring.hold(key(7, in_use=False))
    assert ring.key("r1") == key(5).key
    assert ring.versions("r1") == [3, 5, 7]
    assert ring.hold(key(7)) is Verdict.IN_USE
    assert ring.hold(key(7)) is Verdict.KNOWN
    assert ring.in_use() == {"r1": 7}


def test_a_room_keeps_its_highest_versions_only() -> None:
    ring = KeyRing(versions=2)
    for version in (1, 2, 3):
        ring.hold(key(version))
    assert ring.hold(key(1)) is Verdict.TOO_OLD
    assert (ring.versions("r1"), len(ring)) == ([2, 3], 2)


def test_a_key_in_use_that_is_not_kept_is_not_said_to_be_held() -> None:
    ring = KeyRing(versions=2)
    for version, in_use in ((1, True), (2, False), (3, False)):
        ring.hold(key(version, in_use=in_use))
    assert (ring.key("r1"), ring.in_use()) == (None, {})


def test_neither_ring_nor_key_show_their_bytes() -> None:
    held = key(1)
    ring = KeyRing()
    ring.hold(held)
    shown = f"{ring!r} {held!r} {ring.key('r1')!r}"
    assert shown == (
        "KeyRing(1 rooms, 1 keys) HeldKey(room_id='r1', key=RoomKey(version=1), in_use=True) RoomKey(version=1)"
    )
