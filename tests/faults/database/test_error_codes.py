"""Every error code of the server, for 8 s: it costs time, and no event.

Each code has a separate partition, so that many are walked at once.
"""

import io
from collections.abc import Sequence
from itertools import count

import pytest
from pydantic import SecretStr

from roomkeys import subjects
from roomkeys.events.position import partition_of
from tests.faults.machinery.refusals import KEY_TEXT, SHAPES, Refusal, Refusals
from tests.harness import events
from tests.harness.proxy import proxied
from tests.harness.site import Rig
from worker.telemetry import logs

SECONDS = 8.0
CODES = [
    *range(1, 480), *range(9001, 9002), 10003, 10107, 10334, *range(11000, 11002), *range(11600, 11603), 12586, 12587,
    13297, 13388, 13435, 13436, 14031, 16755, 17280, 17419, 31034, 40414, 50768, 51024, 90001, 5107200,
]  # fmt: skip
"""All numbers of the server's list (src/mongo/base/error_codes.yml), those between them, and some without a name."""
NOT_PRIMARY = [91, 189, 10058, 10107, 11600, 11602, 13435, 13436]
"""The driver takes these for news about the server, and lets every partition wait until it has asked again."""
OTHERS = [code for code in CODES if code not in NOT_PRIMARY]
AT_ONCE = 80
PARTS = [OTHERS[first : first + AT_ONCE] for first in range(0, len(OTHERS), AT_ONCE)]
SAMPLE = [6, 7, 11, 13, 18, 24, 26, 50, 64, 72, 73, 85, 89, 100, 112, 121, 133, 136, 166, 197, 211, 225, 246, 251, 262,
          263, 290, 303, 314, 319, 365, 371, 388, 391, 462, 8000, 9001, 11000, 14031, 17419]  # fmt: skip
"""Codes that clients meet, each with another kind of answer than its neighbours."""


@pytest.fixture
def log() -> io.StringIO:
    """Collect what the worker logs."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    return stream


async def test_no_event_is_lost_while_the_server_answers_with_an_error(site_rig: Rig, log: io.StringIO) -> None:
    await walk(site_rig, log, SAMPLE)


async def test_no_event_is_lost_while_the_server_answers_that_it_is_not_the_primary(
    site_rig: Rig, log: io.StringIO
) -> None:
    await walk(site_rig, log, NOT_PRIMARY)


@pytest.mark.soak
@pytest.mark.parametrize("codes", PARTS, ids=lambda codes: f"{codes[0]}-{codes[-1]}")
async def test_no_event_is_lost_while_the_server_answers_with_any_error(
    site_rig: Rig, log: io.StringIO, codes: Sequence[int]
) -> None:
    await walk(site_rig, log, codes)


async def walk(made: Rig, log: io.StringIO, codes: Sequence[int]) -> None:
    """Remove a member of one room per code while the server answers to the room's partition with the code."""
    rooms = rooms_of_partitions(len(codes))
    await made.users("alice", "bob", "carol")
    async with proxied(made.settings.mongo_uri.get_secret_value()) as proxy:
        proxy.fault = refusals = Refusals()
        uri = f"{proxy.url}{'&' if '?' in proxy.url else '/?'}directConnection=true&heartbeatFrequencyMS=500"
        async with made.worker(mongo_uri=SecretStr(uri), partitions=len(codes)):
            for request_id in [await made.publish("create", events.create(room, "bob", "carol")) for room in rooms]:
                assert (await made.result(request_id))["status"] == "ok"
            for number, code in enumerate(codes):
                shape = SHAPES[number % len(SHAPES)]
                refusals.by_partition[number] = Refusal(shape(code), SECONDS)
            asked = [await made.publish("member.remove", events.remove(room, account="bob")) for room in rooms]
            found = {code: await made.result(one, 90) for code, one in zip(codes, asked, strict=True)}
    assert {code for code, result in found.items() if result["status"] != "ok"} == set()
    assert {codes[number] for number, one in refusals.by_partition.items() if not one.until} == set(), "never refused"
    assert made.of(subjects.dead_letter_subject(made.site)) == []
    for room in rooms:
        assert (await made.room(room))["encKey"]["ver"] == 1
        assert set(await made.members(room)) == {"alice", "carol"}
    assert KEY_TEXT[:30] not in log.getvalue(), "no text of the server is logged"


def rooms_of_partitions(partitions: int) -> list[str]:
    """Return one room id per partition, in order of the partitions."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(partition_of(f"r{number}", partitions), f"r{number}")
        if len(found) == partitions:
            return [found[partition] for partition in range(partitions)]
    raise AssertionError
