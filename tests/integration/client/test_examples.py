"""The examples, and the first program of docs/client.md, run as a reader would run them."""

import re
import sys
from pathlib import Path

import orjson

from roomkeys.client.envelope import seal
from roomkeys.keys import RoomKey
from tests.harness import events
from tests.harness.processes import run, running, says, variables
from tests.harness.site import Rig

EXAMPLES = Path(__file__).parents[3] / "examples"
PAGE = Path(__file__).parents[3] / "docs" / "client.md"


def test_this_file_runs_every_example() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == ["asker.py", "producer.py", "subscriber.py"]


async def test_the_producer_creates_a_room_and_removes_a_member(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        script = str(EXAMPLES / "producer.py")
        played = await run(script, "alice", "bob", env=variables(site_rig), program=sys.executable)
    assert played.out.splitlines() == ["room.create ok ", "room.member.remove ok "], played.err
    assert played.code == 0
    assert [version for version, _ in site_rig.keys("alice")] == [0, 1]
    assert [version for version, _ in site_rig.keys("bob")] == [0]


async def test_the_subscriber_opens_messages_until_it_is_removed(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    room = events.create("r1", "bob")
    script = str(EXAMPLES / "subscriber.py")
    async with site_rig.worker(), running(script, "bob", env=variables(site_rig), program=sys.executable) as subscriber:
        await says(subscriber, "listening as bob")
        await site_rig.ask("create", room)
        await says(subscriber, "key 0 of room r1")
        await say(site_rig, "r1", "hello")
        assert await says(subscriber, "room r1: ") == "room r1: hello\n"
        await site_rig.ask("member.remove", events.remove("r1", account="bob"))
        await say(site_rig, "r1", "bob is gone")
        refused = await says(subscriber, "room r1: ")
        assert refused == "room r1: no key 1: this account is not a member of the room\n"


async def test_the_asker_lists_an_accounts_rooms_with_versions_and_member_counts(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob", "carol")
    room = events.create("r1", "bob", "carol")
    script = str(EXAMPLES / "asker.py")
    async with site_rig.worker():
        await site_rig.ask("create", room)
        await site_rig.ask("member.remove", events.remove("r1", account="carol"))
        bob, carol = [
            await run(script, account, env=variables(site_rig), program=sys.executable) for account in ("bob", "carol")
        ]
    assert bob.out.splitlines() == ["bob has 1 rooms with a key", "room r1: key 1, 2 people"], bob.err
    assert carol.out.splitlines() == ["carol has 0 rooms with a key"], carol.err


async def say(site_rig: Rig, room_id: str, text: str) -> None:
    """Seal a message with the key in use and send it."""
    key = (await site_rig.room(room_id))["encKey"]
    sealed = seal(RoomKey(key["ver"], key["priv"]), text.encode())
    await site_rig.nc.publish(f"example.room.{room_id}.message", orjson.dumps(sealed))


async def test_the_first_program_of_the_guide_prints_what_the_guide_says(site_rig: Rig, tmp_path: Path) -> None:
    await site_rig.users("alice", "bob")
    program, printed = re.findall(r"^```(?:python)?\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[:2]
    script = tmp_path / "first.py"
    script.write_text(program)
    env = variables(site_rig)
    async with site_rig.worker():
        await site_rig.ask("create", events.create("r1", "bob", name="x"))
        played = await run(str(script), env["NATS_URL"], "bob", site_rig.site, "r1", env=env, program=sys.executable)
    assert (played.out, played.code) == (printed, 0), played.err
