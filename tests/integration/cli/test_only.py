"""`room-worker run --only`: the event worker alone, and the key service alone."""

import signal

import aiohttp
import nats
import pytest

from roomkeys import subjects
from tests.harness import events
from tests.harness.key_service import Asker
from tests.harness.processes import ended, run, running, says, variables
from tests.harness.site import Rig
from worker.local.ports import free_port
from worker.settings import WrongSetting, read_settings

CREATE = events.create("r1", "bob")


@pytest.fixture
def database(new_database: str) -> str:
    """Begin without collections: one of them must not come into being."""
    return new_database


async def test_key_service_alone_needs_no_streams_and_takes_no_partition(site_rig: Rig) -> None:
    await site_rig.nc.jetstream().delete_stream(subjects.events_stream(site_rig.site))
    health = f"127.0.0.1:{free_port()}"
    async with running("run", "--only", "service", env=variables(site_rig, HEALTH_ADDR=health)) as process:
        await says(process, '"ready"', on_stderr=True)
        async with aiohttp.ClientSession() as http, http.get(f"http://{health}/readyz") as ready:
            assert ready.status == 200
        answer = await Asker(site_rig.nc, site_rig.site).get("bob", "r1")
        stopped = await ended(process, signal.SIGTERM)
    assert answer["reason"] == "not_room_member"
    assert stopped.code == 0
    assert await site_rig.db.list_collection_names(filter={"name": "room_worker_replicas"}) == []


async def test_event_worker_alone_answers_no_request_until_a_key_service_runs(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with running("run", "--only", "worker", env=variables(site_rig)) as worker:
        await says(worker, '"ready"', on_stderr=True)
        await site_rig.ask("create", CREATE)
        client = await nats.connect(site_rig.settings.nats_url[0])
        with pytest.raises(nats.errors.TimeoutError):  # and not NoRespondersError: the rig listens too
            await client.request(subjects.key_get(site_rig.site, "bob", "r1"), timeout=0.3)
        await client.close()
        async with running("run", "--only", "service", env=variables(site_rig)) as service:
            await says(service, '"ready"', on_stderr=True)
            assert (await Asker(site_rig.nc, site_rig.site).get("bob", "r1"))["version"] == 0


async def test_worker_with_the_key_service_off_answers_no_request(site_rig: Rig) -> None:
    await site_rig.users("alice", "bob")
    async with site_rig.worker(key_service=False):
        await site_rig.ask("create", CREATE)
        with pytest.raises(nats.errors.TimeoutError):
            await site_rig.nc.request(subjects.key_get(site_rig.site, "bob", "r1"), timeout=0.3)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"key_service": "perhaps"}, "KEY_SERVICE must be on or off"),
        ({"key_service_queue": "a b"}, "KEY_SERVICE_QUEUE must be a token"),
        ({"key_service_replies": "_INBOX"}, "KEY_SERVICE_REPLIES must be"),
        ({"key_service_replies": "_INBOX..,x."}, "KEY_SERVICE_REPLIES must be"),
        ({"key_service_replies": "_INBOX.,chat.user."}, "KEY_SERVICE_REPLIES must be"),
        ({"key_service_replies": "$JS."}, "KEY_SERVICE_REPLIES must be"),
    ],
)
def test_wrong_setting_of_the_key_service_is_named(
    wrong: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name.upper(), value)
    with pytest.raises(WrongSetting, match=named):
        read_settings()


def test_reply_prefixes_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_SERVICE_REPLIES", "_INBOX., apps.inbox.")
    assert read_settings().key_service_replies == ["_INBOX.", "apps.inbox."]


async def test_key_service_alone_must_be_on() -> None:
    stopped = await run("run", "--only", "service", env={"KEY_SERVICE": "off"})
    assert stopped.code == 2
    assert "KEY_SERVICE must be on" in stopped.err
