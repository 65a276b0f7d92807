"""Kinds of events streams that operators use: the worker reads each of them, also after a restart."""

from dataclasses import replace

import pytest
from nats.js.api import StorageType, StoreCompression, StreamConfig, StreamSource, SubjectTransform

from roomkeys import subjects
from tests.harness import events
from tests.harness.site import Rig

CREATE = events.create("r1", "bob", "carol")
REMOVE_BOB = events.remove("r1", account="bob")
ROTATE = events.rotate("r1")

KINDS = {
    "compressed": StreamConfig(compression=StoreCompression.S2),
    "in memory": StreamConfig(storage=StorageType.MEMORY),
    "from sequence 1000": StreamConfig(first_seq=1_000),
    "one message per subject": StreamConfig(max_msgs_per_subject=1),
    "two messages": StreamConfig(max_msgs=2),
    "direct": StreamConfig(allow_direct=True),
    "sealed against deletes": StreamConfig(deny_delete=True, deny_purge=True),
}


async def serve_before_and_after_a_restart(rig: Rig) -> None:
    """Require the results, versions and recipients of a create, a removal and a rotation."""
    await rig.users("alice", "bob", "carol")
    async with rig.worker():
        assert (await rig.ask("create", CREATE))["status"] == "ok"
        assert (await rig.ask("member.remove", REMOVE_BOB))["status"] == "ok"
    waiting = await rig.publish("key.rotate", ROTATE)
    async with rig.worker():
        assert (await rig.result(waiting))["status"] == "ok"
        assert (await rig.ask("key.rotate", ROTATE))["status"] == "ok"
    assert [version for version, _ in rig.keys("bob")] == [0]
    assert [version for version, _ in rig.keys("carol")] == [0, 1, 2, 3]


async def replace_events_stream(rig: Rig, config: StreamConfig) -> None:
    name = subjects.events_stream(rig.site)
    await rig.nc.jetstream().delete_stream(name)
    await rig.nc.jetstream().add_stream(replace(config, name=name))


@pytest.mark.parametrize("kind", KINDS)
async def test_worker_reads_a_stream_of_any_kind(site_rig: Rig, kind: str) -> None:
    captured = [subjects.events_subjects(site_rig.site)]
    await replace_events_stream(site_rig, replace(KINDS[kind], subjects=captured))
    await serve_before_and_after_a_restart(site_rig)


async def test_worker_reads_a_mirror(site_rig: Rig) -> None:
    await replace_events_stream(site_rig, StreamConfig(mirror=StreamSource(name=f"origin_{site_rig.site}")))
    await add_origin(site_rig, "origin", ">")
    await serve_before_and_after_a_restart(site_rig)


async def test_worker_reads_a_stream_with_several_sources(site_rig: Rig) -> None:
    sources = [StreamSource(name=f"{name}_{site_rig.site}") for name in ("create", "members", "keys")]
    await replace_events_stream(site_rig, StreamConfig(sources=sources))
    for name, suffix in (("create", "create"), ("members", "member.>"), ("keys", "key.>")):
        await add_origin(site_rig, name, suffix)
    await serve_before_and_after_a_restart(site_rig)


async def add_origin(rig: Rig, name: str, suffix: str) -> None:
    captured = [subjects.event_subject(rig.site, suffix)]
    await rig.nc.jetstream().add_stream(StreamConfig(name=f"{name}_{rig.site}", subjects=captured))


async def test_worker_reads_a_stream_that_transforms_its_subjects(site_rig: Rig) -> None:
    """The producers publish under other subjects, those of their application."""
    origin, captured = f"origin_{site_rig.site}", f"app.{site_rig.site}.>"
    transform = SubjectTransform(src=captured, dest=subjects.events_subjects(site_rig.site))
    await replace_events_stream(site_rig, StreamConfig(sources=[StreamSource(origin, subject_transforms=[transform])]))
    await site_rig.nc.jetstream().add_stream(StreamConfig(name=origin, subjects=[captured]))
    await site_rig.users("alice", "bob", "carol")
    async with site_rig.worker():
        for suffix, body in (("create", CREATE), ("member.remove", REMOVE_BOB)):
            request_id = await site_rig.publish_on(f"app.{site_rig.site}.r1.{suffix}", body)
            assert (await site_rig.result(request_id))["status"] == "ok"
    assert [version for version, _ in site_rig.keys("bob")] == [0]


@pytest.mark.parametrize("keep", [0, 1])
async def test_worker_goes_on_after_a_purge(site_rig: Rig, keep: int) -> None:
    """A purge of events that were applied costs nothing; the sequences go on."""
    await site_rig.users("alice", "bob", "carol")
    purge, name = site_rig.nc.jetstream().purge_stream, subjects.events_stream(site_rig.site)
    async with site_rig.worker():
        assert (await site_rig.ask("create", CREATE))["status"] == "ok"
        await purge(name, keep=keep)
        assert (await site_rig.ask("member.remove", REMOVE_BOB))["status"] == "ok"
    await purge(name, keep=keep)
    async with site_rig.worker():
        assert (await site_rig.ask("key.rotate", ROTATE))["status"] == "ok"
    assert [version for version, _ in site_rig.keys("carol")] == [0, 1, 2]
