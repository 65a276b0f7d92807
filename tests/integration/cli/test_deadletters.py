"""`room-worker deadletters`: lists dead letters, shows one, and replays them."""

from structlog.testing import capture_logs

from roomkeys import subjects
from tests.harness import events
from tests.harness.polling import until
from tests.harness.processes import run, variables
from tests.harness.site import Rig


async def test_dead_letter_can_be_listed_shown_and_replayed(site_rig: Rig) -> None:
    env = variables(site_rig)
    await site_rig.users("alice")
    assert (await run("deadletters", "list", env=env)).out == "no dead letters\n"
    async with site_rig.worker():
        body = events.rotate("r1", note="\x1b[2J")
        first = await site_rig.ask("r1.key.rotate", body)
        assert first["reason"] == "room_not_found"
        (letter,) = (await run("deadletters", "list", "--json", env=env)).json()
        assert (letter["sequence"], letter["code"], letter["reason"]) == (1, "not_found", "room_not_found")
        assert letter["subject"] == subjects.event_subject(site_rig.site, "r1.key.rotate")
        listed = (await run("deadletters", "list", env=env)).out
        assert "not_found  room_not_found" in listed
        shown = await run("deadletters", "show", "1", env=env)
        assert "Room-Worker-Reason: room_not_found" in shown.out
        assert "\x1b" not in shown.out
        replayed = await run("deadletters", "replay", "1", env=env)
        assert replayed.code == 0
        assert replayed.out.startswith("dead letter 1: replayed as event 2 on chat.room.canonical.")
        await site_rig.until(lambda: len(site_rig.of(subjects.dead_letter_subject(site_rig.site))) == 2)
        assert [item["sequence"] for item in (await run("deadletters", "list", "--json", env=env)).json()] == [2, 1]
        every = (await run("deadletters", "replay", "--all", "--json", env=env)).json()
    assert [(item["sequence"], item["newSequence"]) for item in every] == [(1, 3), (2, 4)]
    results = [item for item in site_rig.received if item.subject.startswith("chat.user.alice.response.")]
    assert {item.body["requestId"] for item in results} == {first["requestId"]}


async def test_dead_letter_is_logged_with_its_room_and_the_command_that_shows_it(site_rig: Rig) -> None:
    with capture_logs() as logs:
        async with site_rig.worker():
            request_id = await site_rig.publish("r1.key.rotate", events.rotate("r1"))
            await site_rig.until(lambda: site_rig.of(subjects.dead_letter_subject(site_rig.site)))
            await until(lambda: [line for line in logs if line["event"] == "event became a dead letter"])
    (line,) = [line for line in logs if line["event"] == "event became a dead letter"]
    assert (line["room"], line["operation"], line["request_id"]) == ("r1", "room.key.rotate", request_id)
    shown = await run(*line["see"].split()[1:], env=variables(site_rig))
    assert "Room-Worker-Reason: room_not_found" in shown.out


async def test_replay_refuses_a_truncated_body_and_a_subject_of_other_services(site_rig: Rig) -> None:
    env = variables(site_rig)
    here, elsewhere = subjects.event_subject(site_rig.site, "create"), "chat.user.alice.event.room.key"
    truncated = {"Room-Worker-Subject": here, "Room-Worker-Truncated": "true"}
    letters = (truncated, {"Room-Worker-Subject": elsewhere}, {"Room-Worker-Subject": here})
    for headers in letters:
        await site_rig.nc.jetstream().publish(
            subjects.dead_letter_subject(site_rig.site), b'{"roomId"', headers=headers
        )
    refused = await run("deadletters", "replay", "1", env=env)
    assert (refused.code, "its body was truncated" in refused.out) == (1, True)
    every = await run("deadletters", "replay", "--all", "--json", env=env)
    assert every.code == 1
    assert ["refused" in item for item in every.json()] == [True, True, False]
    some = await run("deadletters", "replay", "3", "99", "--json", env=env)
    assert (some.code, ["refused" in item for item in some.json()]) == (1, [False, True])
    unknown = await run("deadletters", "show", "9", env=env)
    assert (unknown.code, unknown.err) == (1, "room-worker: there is no dead letter 9\n")
