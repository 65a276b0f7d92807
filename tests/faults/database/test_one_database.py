"""One site, one database: a replica with another database stops with exit code 2, before it writes anything."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig

from roomkeys import subjects
from tests.harness import events
from tests.harness.polling import until_answered
from tests.harness.processes import run, running, says, variables
from tests.harness.site import PATIENCE, Rig, rig
from worker.broker.connection import connect
from worker.broker.jetstream.site_witness import DATABASE, SITE, Witness, read_witness, write_witness
from worker.local.servers import NatsServer
from worker.settings import WrongSetting

LEAST = (
    '"chat.user.*.event.room.key", "chat.user.*.event.subscription.update", "chat.user.*.response.*", '
    '"chat.room.*.event.member", "chat.room.deadletter.*", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", '
    '"$JS.API.CONSUMER.INFO.*.room-worker", "$JS.API.CONSUMER.CREATE.*", "$JS.API.CONSUMER.MSG.NEXT.*.*", '
    '"$JS.API.CONSUMER.DELETE.*.*", "_INBOX.>"'
)
"""What the worker may publish at least: not `$JS.API.STREAM.UPDATE.*`."""


async def metadata(made: Rig) -> dict[str, str]:
    """Return the metadata of the events stream, without what the server adds."""
    info = await made.nc.jetstream().stream_info(subjects.events_stream(made.site))
    return {name: value for name, value in (info.config.metadata or {}).items() if not name.startswith("_nats")}


async def site_id(made: Rig) -> Any:
    found = await made.db.room_worker_sites.find_one({"_id": made.site})
    return found and found["id"]


async def collections(made: Rig, name: str) -> list[str]:
    found: list[str] = await made.db.client[name].list_collection_names()
    return found


async def has_witness(made: Rig) -> bool:
    return bool(await metadata(made))


async def recreate(made: Rig) -> None:
    jetstream, name = made.nc.jetstream(), subjects.events_stream(made.site)
    await jetstream.delete_stream(name)
    await jetstream.add_stream(StreamConfig(name=name, subjects=[subjects.events_subjects(made.site)]))


async def test_first_start_stores_one_id_in_the_database_and_in_the_stream(site_rig: Rig) -> None:
    async with site_rig.worker(), site_rig.worker():
        await site_rig.until_owned()
    assert await metadata(site_rig) == {SITE: await site_id(site_rig), DATABASE: site_rig.settings.mongo_db}
    before = await site_id(site_rig)
    async with site_rig.worker():
        await site_rig.until_owned()
    assert await site_id(site_rig) == before


async def test_run_with_another_database_exits_with_2_and_names_both(site_rig: Rig, new_database: str) -> None:
    async with site_rig.worker():
        await site_rig.until_owned()
    stopped = await run("run", env=variables(site_rig, MONGO_DB=new_database))
    assert stopped.code == 2
    assert "MONGO_URI and MONGO_DB must name the database of the site" in stopped.err
    for part in (site_rig.settings.mongo_db, await site_id(site_rig), new_database, "has no data of it"):
        assert part in stopped.err
    assert f"nats stream edit {subjects.events_stream(site_rig.site)} --metadata" in stopped.err
    assert "room_worker_sites" in await collections(site_rig, site_rig.settings.mongo_db)
    assert await site_rig.db.client[new_database].room_worker_sites.count_documents({}) == 0, "nothing of the site"


@pytest.mark.parametrize("part", ["worker", "service"])
async def test_each_half_stops_at_a_database_that_has_another_id(site_rig: Rig, new_database: str, part: str) -> None:
    async with site_rig.worker():
        await site_rig.until_owned()
    other = site_rig.db.client[new_database]
    await other.room_worker_sites.insert_one({"_id": site_rig.site, "id": "another", "partitions": 8})
    stopped = await run("run", "--only", part, env=variables(site_rig, MONGO_DB=new_database))
    assert stopped.code == 2
    assert "has the id another for it" in stopped.err


async def test_check_names_the_other_database(site_rig: Rig, new_database: str) -> None:
    async with site_rig.worker():
        await site_rig.until_owned()
    stopped = await run("check", "--json", env=variables(site_rig))
    (found,) = (item for item in stopped.json()["findings"] if item["part"] == "site")
    assert (stopped.code, found["ok"]) == (0, True)
    stopped = await run("check", "--json", env=variables(site_rig, MONGO_DB=new_database))
    (found,) = (item for item in stopped.json()["findings"] if item["part"] == "site")
    assert stopped.code == 1
    assert "must name the database of the site" in found["text"]


async def test_site_of_an_earlier_version_gets_an_id(site_rig: Rig) -> None:
    async with site_rig.worker():
        await site_rig.until_owned()
    await site_rig.db.room_worker_sites.update_one({"_id": site_rig.site}, {"$unset": {"id": ""}})
    await recreate(site_rig)
    async with site_rig.worker():
        await site_rig.until_owned()
    assert (await metadata(site_rig))[SITE] == await site_id(site_rig)


async def test_stream_that_was_created_again_gets_the_witness_again(site_rig: Rig) -> None:
    site_rig.limit(verify_site_s=0.1)
    await site_rig.users("alice", "bob")
    async with site_rig.worker():
        await site_rig.ask("create", events.create("r1", "bob"))
        await recreate(site_rig)
        await until_answered(lambda: has_witness(site_rig))
    assert (await metadata(site_rig))[SITE] == await site_id(site_rig)
    await recreate(site_rig)
    async with site_rig.worker():
        await site_rig.until_owned()
    assert (await metadata(site_rig))[SITE] == await site_id(site_rig)


async def test_replica_that_loses_a_race_of_first_starts_stops(site_rig: Rig) -> None:
    """The stream comes to belong to another database after this replica has looked."""
    site_rig.limit(verify_site_s=0.1)

    async def lose() -> None:
        async with site_rig.worker() as stop:
            await site_rig.until_owned()
            config = (await site_rig.nc.jetstream().stream_info(subjects.events_stream(site_rig.site))).config
            theirs = {SITE: "their-id", DATABASE: "theirs"}
            await site_rig.nc.jetstream().update_stream(config.evolve(metadata=theirs))
            await asyncio.wait_for(stop.wait(), PATIENCE)

    with pytest.raises(WrongSetting, match="belongs to the database 'theirs' with the id their-id"):
        await lose()


async def test_first_starts_over_two_databases_at_once_leave_one(site_rig: Rig, new_database: str) -> None:
    site_rig.limit(verify_site_s=0.1)

    async def start(name: str) -> bool:
        try:
            async with site_rig.worker(mongo_db=name) as stop:
                await asyncio.wait_for(stop.wait(), 5.0)
        except (WrongSetting, TimeoutError) as error:
            return isinstance(error, TimeoutError)
        return True

    stayed = await asyncio.gather(*(start(name) for name in (site_rig.settings.mongo_db, new_database)))
    assert sorted(stayed) == [False, True]


async def test_witness_does_not_replace_another_one_and_keeps_the_configuration(site_rig: Rig) -> None:
    broker = await connect(site_rig.settings, "test")
    stream = subjects.events_stream(site_rig.site)
    config = (await site_rig.nc.jetstream().stream_info(stream)).config
    await site_rig.nc.jetstream().update_stream(config.evolve(metadata={"team": "chat"}, max_msgs=1_000))
    for number in (1, 2):
        await write_witness(broker, site_rig.site, Witness(f"id-{number}", "chat"))
    assert await read_witness(broker, site_rig.site) == Witness("id-1", "chat")
    assert (await metadata(site_rig))["team"] == "chat"
    assert (await site_rig.nc.jetstream().stream_info(stream)).config.max_msgs == 1_000
    await broker.close()


async def test_removing_the_witness_lets_a_new_database_begin(site_rig: Rig, new_database: str) -> None:
    """The remedy of the message."""
    async with site_rig.worker():
        await site_rig.until_owned()
    stream = subjects.events_stream(site_rig.site)
    config = (await site_rig.nc.jetstream().stream_info(stream)).config
    await site_rig.nc.jetstream().update_stream(config.evolve(metadata={SITE: ""}))
    async with running("run", env=variables(site_rig, MONGO_DB=new_database)) as process:
        await says(process, '"ready"', on_stderr=True)
    assert (await metadata(site_rig))[DATABASE] == new_database


async def test_worker_that_may_not_update_the_stream_warns_and_goes_on(
    tmp_path: Path, mongo_uri: str, database: str, site: str, new_database: str
) -> None:
    permissions = f'permissions: {{publish: [{LEAST}], subscribe: [">"], allow_responses: true}}'
    config = f"authorization {{ users: [{{user: all, password: x}}, {{user: least, password: x, {permissions}}}] }}"
    async with NatsServer(tmp_path, config=config) as server:
        url = server.url.replace("nats://", "nats://{}:x@")
        async with rig(url.format("all"), mongo_uri, database, site) as made:
            await made.users("alice", "bob")
            least = {"NATS_URL": server.url, "NATS_USER": "least", "NATS_PASSWORD": "x"}
            async with running("run", env=variables(made, **least)) as process:
                line = await says(process, "nats stream edit", on_stderr=True)
                assert f"--metadata {SITE}={await site_id(made)}" in line
                assert (await made.ask("create", events.create("r1", "bob")))["status"] == "ok"
            # An operator does as the log says. From then on, another database is noticed without the right to write.
            stream = subjects.events_stream(site)
            config_now = (await made.nc.jetstream().stream_info(stream)).config
            await made.nc.jetstream().update_stream(config_now.evolve(metadata={SITE: str(await site_id(made))}))
            stopped = await run("run", env=variables(made, MONGO_DB=new_database, **least))
            assert stopped.code == 2
