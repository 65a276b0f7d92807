"""The main job, from an event on the stream to keys at subscribers, on real servers."""

from tests.harness import events
from tests.harness.site import Rig


async def test_a_removal_reaches_every_survivor_and_not_the_one_removed(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        created = await site_rig.ask("create", events.create("r1", "bob", "carol"))
        assert created["status"] == "ok", created
        first = site_rig.keys("bob")
        assert [version for version, _ in first] == [0]
        assert site_rig.keys("alice") == site_rig.keys("carol") == first

        removed = await site_rig.ask("member.remove", events.remove("r1", account="bob"))
        assert removed["status"] == "ok", removed
    assert [version for version, _ in site_rig.keys("alice")] == [0, 1]
    assert site_rig.keys("carol") == site_rig.keys("alice")
    assert site_rig.keys("bob") == first
    room = await site_rig.room("r1")
    assert (room["encKey"]["ver"], room["encKey"]["priv"]) == site_rig.keys("alice")[1]
    assert (room["encKey"]["prevVer"], room["encKey"]["prevPriv"]) == first[0]
    assert room["userCount"] == 2
    assert set(await site_rig.members("r1")) == {"alice", "carol"}
