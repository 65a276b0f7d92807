"""The permissions in deploy/permissions.conf: with them everything works, and no member gets a key of another."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import nats
import nats.errors
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from roomkeys import subjects
from roomkeys.client import NotRoomMember, RoomKeys
from tests.harness import events
from tests.harness.polling import PATIENCE, until
from tests.harness.processes import run, variables
from tests.harness.site import Rig, rig
from worker.local.servers import NatsServer

TEMPLATE = Path(__file__).parents[3] / "deploy" / "permissions.conf"
PASSWORD = "change-me"  # noqa: S105 - the template's
MEMBERS = ("alice", "bob", "mallory")


def config(site: str) -> str:
    """Return the template for a site, with the member's entry for each member, and with a user for the test."""
    text = TEMPLATE.read_text().replace("site-local", site)
    start = text.index("    {\n      user: alice")
    end = text.rindex("  ]\n")
    entry = text[start:end]
    users = "".join(entry.replace("alice", account) for account in MEMBERS)
    test = f"    {{user: test, password: {PASSWORD}}}\n"
    return text[:start] + users + test + text[end:] + "no_auth_user: test\n"


@asynccontextmanager
async def connected(
    server: NatsServer, user: str, prefix: str | None = None
) -> AsyncIterator[tuple[Client, list[str]]]:
    """Connect as a user; yield the client and the errors that the server reports."""
    errors: list[str] = []

    async def failed(error: Exception) -> None:
        errors.append(str(error))

    client = await nats.connect(
        server.url, user=user, password=PASSWORD, inbox_prefix=f"_INBOX.{prefix or user}".encode(), error_cb=failed
    )
    try:
        yield client, errors
    finally:
        await client.close()


@pytest.fixture
async def restricted(tmp_path: Path, mongo_uri: str, database: str, site: str) -> AsyncIterator[tuple[NatsServer, Rig]]:
    """Run a worker as the template's user, in a site whose streams an administrator has made."""
    login = {"nats_user": "room-worker", "nats_password": SecretStr(PASSWORD), "bootstrap_streams": False}
    async with NatsServer(tmp_path, config=config(site)) as server, rig(server.url, mongo_uri, database, site) as made:
        await made.users(*MEMBERS)
        async with made.worker(**login):
            yield server, made


async def ask(producer: Client, made: Rig, suffix: str, body: events.Body) -> str:
    """Publish an event as the producer, and return the status of its result."""
    request_id = str(uuid4())
    result = await producer.subscribe(subjects.response("alice", request_id))
    await producer.flush()
    headers = {"X-Request-ID": request_id}
    await producer.jetstream().publish(subjects.event_subject(made.site, suffix), orjson.dumps(body), headers=headers)
    return str(orjson.loads((await result.next_msg(timeout=PATIENCE)).data)["status"])


async def test_everybody_can_do_their_work_with_the_permissions_of_the_template(
    restricted: tuple[NatsServer, Rig],
) -> None:
    server, made = restricted
    async with (
        connected(server, "producer") as (producer, denied),
        connected(server, "alice") as (alice, denied_to_alice),
        connected(server, "bob") as (bob, _),
        RoomKeys(alice, "alice", made.site) as keys_of_alice,
        RoomKeys(bob, "bob", made.site) as keys_of_bob,
    ):
        assert await ask(producer, made, "create", events.create("r1", "bob")) == "ok"
        sealed = await keys_of_alice.seal("r1", b"hello", deadline=PATIENCE)
        assert await keys_of_bob.open("r1", sealed) == b"hello"
        assert await ask(producer, made, "member.remove", events.remove("r1", account="bob")) == "ok"
        with pytest.raises(NotRoomMember):
            await keys_of_bob.key("r1", 1, deadline=PATIENCE)
        assert (denied, denied_to_alice) == ([], [])
    checked = await run("check", "--json", env=variables(made, NATS_USER="room-worker", NATS_PASSWORD=PASSWORD))
    assert checked.code == 0, checked.out
    assert [found for found in checked.json()["findings"] if found["part"] == "permissions"] == []


def forged(site: str) -> Iterator[str]:
    """Yield subjects by which mallory might ask in the name of others, for the key of a room that it is not in."""
    for account in ("bob", "*", ">", "mallory.bob", "MALLORY", "bob\u200b", "mallory.request.rooms.x.bob"):
        yield f"chat.user.{account}.request.room.r1.{site}.key.get"
        yield f"chat.user.{account}.request.rooms.{site}.keys.sync"
    yield f"chat.user.mallory.request.room.r1.{site}.key.get"
    yield f"chat.user.mallory.request.rooms.{site}.keys.sync"
    yield f"chat.user.mallory.request.room.*.{site}.key.get"


LISTENED = (
    *(
        ">",
        "chat.>",
        "chat.user.>",
        "chat.user.*.event.>",
        "chat.user.bob.event.room.key",
        "chat.user.*.event.room.key",
    ),
    *("_INBOX.>", "_INBOX.bob.>", "_INBOX.*.>", "_INBOX.room-worker.>", "$JS.>", "$SYS.>", "$SRV.>"),
)
REPLIES = (
    "_INBOX.mallory.x",
    "_INBOX.bob.x",
    "chat.user.mallory.event.room.key",
    "chat.user.bob.event.x",
    "$JS.API.INFO",
)


async def test_a_member_gets_no_key_of_a_room_that_it_is_not_in(restricted: tuple[NatsServer, Rig]) -> None:
    """Forged accounts, wildcards, the service's queue group, other inboxes, and forged reply addresses."""
    server, made = restricted
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    async with connected(server, "producer") as (producer, _), connected(server, "mallory") as (mallory, denied):
        for subject in (*LISTENED, "_INBOX.mallory.>", "chat.user.mallory.event.>"):
            await mallory.subscribe(subject, cb=hear)
        for subject in (subjects.key_get(made.site), subjects.keys_batch(made.site), subjects.keys_sync(made.site)):
            await mallory.subscribe(subject, queue="room-keys", cb=hear)
        await mallory.flush()
        assert await ask(producer, made, "create", events.create("r1", "bob")) == "ok"
        async with connected(server, "bob") as (bob, _), RoomKeys(bob, "bob", made.site) as keys:
            assert await keys.key("r1", deadline=PATIENCE)
            for subject in forged(made.site):
                for reply in REPLIES:
                    await mallory.publish(subject, b"", reply=reply)
            await mallory.flush()
            assert await ask(producer, made, "key.rotate", events.rotate("r1")) == "ok"
            await until(lambda: keys.held("r1") == [0, 1])
        answers = [orjson.loads(message.data) for message in heard]
        await until(lambda: len(denied) >= len(LISTENED), lambda: denied)
    assert [message.subject for message in heard if not re.match(r"_INBOX\.mallory\.x$", message.subject)] == []
    assert {answer.get("reason", "") for answer in answers} <= {"not_room_member", ""}
    text = b" ".join(message.data for message in heard)
    assert b"privateKey" not in text
    for sent in made.of(subjects.room_key("bob")):
        assert sent["privateKey"].encode() not in text
