"""The events that `room-worker publish` builds."""

import orjson

from roomkeys.events.decode import decode
from roomkeys.events.event import Add, Create, Remove, Rotate, StreamMessage
from roomkeys.subjects import event_subject
from worker.cli.terminal import producer
from worker.cli.terminal.producer import Request


def event(request: Request) -> object:
    """Decode the event of a request in the same way as the worker."""
    body = orjson.dumps({**request.body, "timestamp": 1})
    origin = StreamMessage(1, 0, event_subject("s", request.suffix), body, request.id)
    return decode(origin, orjson.loads(body))


def test_worker_reads_every_event_that_the_producer_builds() -> None:
    created = event(producer.create("r1", "alice", name="general", users=["bob"], orgs=["eng"]))
    added = event(producer.add("r1", "alice", users=["dave"], history="none"))
    removed = event(producer.remove("r1", "alice", users=["bob"]))
    org_removed = event(producer.remove("r1", "alice", org="eng"))
    rotated = event(producer.rotate("r1", "alice", reason="leaked"))
    assert isinstance(created, Create)
    assert (created.kind, created.name, created.accounts, created.orgs) == ("channel", "general", ("bob",), ("eng",))
    assert isinstance(added, Add)
    assert (added.accounts, added.share_history) == (("dave",), False)
    assert isinstance(removed, Remove)
    assert (removed.accounts, removed.org) == (("bob",), None)
    assert isinstance(org_removed, Remove)
    assert org_removed.org == "eng"
    assert isinstance(rotated, Rotate)
    assert rotated.requester == "alice"


def test_room_of_two_accounts_without_a_name_is_a_dm() -> None:
    created = event(producer.create("r1", "alice", users=["bob"]))
    assert isinstance(created, Create)
    assert created.kind == "dm"


def test_each_request_gets_a_new_id_unless_one_is_given() -> None:
    given = "00000000-0000-4000-8000-000000000001"
    assert Request("key.rotate", {}, "alice", given).id == given
    assert producer.rotate("r1", "alice").id != producer.rotate("r1", "alice").id
