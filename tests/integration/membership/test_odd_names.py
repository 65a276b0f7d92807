"""Accounts and room ids that are tokens but look odd: each is served like any other."""

from typing import Final

from roomkeys import subjects
from roomkeys.client import RoomKeys
from roomkeys.tokens import is_token
from tests.harness import events
from tests.harness.site import PATIENCE, Rig

ODD: Final = (
    *("a", "0", "007", "-", "_", "-1", "null", "None", "true", "undefined", "NaN", "__proto__", "constructor"),
    *("$JS", "$SRV", "_INBOX", "chat", "event", "key", "room-worker", "ROOMS_x", "{account}", "%s", "%2e", "\\", "'"),
    *('"', "a/b", "a:b", "a,b", "a=b", "a#b", "<b>", "é", "名前", "👩‍👩‍👧", "a\u0301", "a" * 255, "é" * 127),
)


async def test_odd_accounts_get_the_key_of_an_ordinary_room(site_rig: Rig) -> None:
    accounts = [name for name in ODD if is_token(name)]
    assert len(accounts) >= 35
    await site_rig.users("alice", *accounts)
    async with site_rig.worker():
        assert (await site_rig.ask("create", events.create("r1", *accounts)))["status"] == "ok"
        for account in accounts:
            assert [version for version, _ in site_rig.keys(account)] == [0], account
            (notice,) = site_rig.of(subjects.subscription_update(account))
            assert notice["subscription"]["u"]["account"] == account
            async with RoomKeys(site_rig.nc, account, site_rig.site) as keys:
                assert keys.held("r1") == [0], account
        removed = [account for account in accounts if account != "a"]
        assert (await site_rig.ask("member.remove", events.remove("r1", accounts=removed)))["status"] == "ok"
        assert sorted(await site_rig.members("r1")) == ["a", "alice"]
        assert [version for version, _ in site_rig.keys("a")] == [0, 1]
        assert [account for account in removed if len(site_rig.keys(account)) != 1] == []


async def test_odd_rooms_get_keys(site_rig: Rig) -> None:
    room_ids = [name for name in ODD if is_token(name)]
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        for room_id in room_ids:
            assert (await site_rig.ask("create", events.create(room_id, "bob")))["status"] == "ok", room_id
            assert (await site_rig.ask("key.rotate", events.rotate(room_id)))["status"] == "ok", room_id
            assert [version for version, _ in site_rig.keys("bob", room_id)] == [0, 1], room_id
        async with RoomKeys(site_rig.nc, "bob", site_rig.site) as keys:
            for room_id in room_ids:
                sealed = await keys.seal(room_id, b"x", deadline=PATIENCE)
                assert (sealed["version"], await keys.open(room_id, sealed)) == (1, b"x"), room_id
