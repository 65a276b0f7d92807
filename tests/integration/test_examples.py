"""The examples, each as a reader runs it."""

import os
import sys
from base64 import b64encode
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.command import run, running, says, variables
from tests.rig import Rig

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == ["producer.py", "subscriber.py"]


async def test_the_producer_creates_a_room_and_removes_somebody(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        script = str(EXAMPLES / "producer.py")
        played = await run(script, "alice", "bob", env=variables(site_rig), program=sys.executable)
    assert played.out.splitlines() == ["room.create ok ", "room.member.remove ok "], played.err
    assert played.code == 0
    assert [version for version, _ in site_rig.keys("alice")] == [0, 1]
    assert [version for version, _ in site_rig.keys("bob")] == [0]


async def test_the_subscriber_reads_what_was_sealed_for_it_and_nothing_else(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    room = {"roomId": "r1", "name": "general", "users": ["bob"], "requesterAccount": "alice"}
    script = str(EXAMPLES / "subscriber.py")
    async with (
        site_rig.worker(),
        running(script, "bob", env=variables(site_rig), program=sys.executable) as subscriber,
    ):
        await says(subscriber, "listening as bob")
        await site_rig.ask("create", room)
        await says(subscriber, "key 0 of room r1")
        await say(site_rig, "r1", "hello")
        assert await says(subscriber, "room r1: ") == "room r1: hello\n"
        await site_rig.ask("member.remove", {"roomId": "r1", "requester": "alice", "account": "bob"})
        await say(site_rig, "r1", "bob is gone")
        assert await says(subscriber, "room r1: ") == "room r1: no key 1 to read a message with\n"


async def say(site_rig: Rig, room_id: str, text: str) -> None:
    """Seal a message with the key in use and send it."""
    key = (await site_rig.room(room_id))["encKey"]
    nonce = os.urandom(12)
    ciphertext = AESGCM(key["priv"]).encrypt(nonce, text.encode(), None)
    envelope = {
        "version": key["ver"],
        "nonce": b64encode(nonce).decode(),
        "ciphertext": b64encode(ciphertext).decode(),
    }
    await site_rig.nc.publish(f"example.room.{room_id}.message", orjson.dumps(envelope))
