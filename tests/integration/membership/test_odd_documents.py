"""Membership documents that the worker did not write and that lack a field."""

from typing import Any

import pytest

from tests.harness import events
from tests.harness.site import Rig

MEMBERS = [f"m{number}" for number in range(8)]


@pytest.mark.parametrize("who", [{}, {"account": None}])
async def test_membership_without_account_ends_no_pass_over_a_large_room(site_rig: Rig, who: dict[str, Any]) -> None:
    site_rig.limit(large_room_members=4, page_accounts=3, window_accounts=2)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("big", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "big", "u": who})
        assert (await site_rig.ask("key.rotate", events.rotate("big")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []


async def test_membership_without_account_ends_no_page_of_small_rooms(site_rig: Rig) -> None:
    site_rig.limit(page_accounts=3)
    async with site_rig.worker(partitions=1):
        await site_rig.users("alice", *MEMBERS)
        await site_rig.ask("create", events.create("r1", *MEMBERS))
        await site_rig.db.subscriptions.insert_one({"_id": "x", "roomId": "r1", "u": {}})
        assert (await site_rig.ask("key.rotate", events.rotate("r1")))["status"] == "ok"
        assert [account for account in ("alice", *MEMBERS) if 1 not in dict(site_rig.keys(account))] == []
