"""The demo's check: it must fail when the outcome is wrong."""

import pytest

from worker.cli.demo.command import verdict
from worker.cli.demo.story import STORY, Add, Reading, Say, expectations, judge, people
from worker.cli.demo.subscriber import Subscriber

EXPECTED = expectations(STORY)
LAST = len(EXPECTED) - 1
NO_KEY = Reading(has_key=False, text=None)


def right() -> dict[str, list[Reading]]:
    """Return what everybody reads when all is well."""
    return {
        account: [
            Reading(has_key=True, text=message.text) if account in message.members else NO_KEY
            for message in EXPECTED
        ]
        for account in people(STORY)
    }


def test_the_story_demands_what_its_steps_say() -> None:
    everybody = people(STORY)
    assert everybody == ["alice", "bob", "carol", "dave"]
    assert [(sorted(message.members), sorted(message.removed)) for message in EXPECTED] == [
        (["alice", "bob", "carol"], []),
        (["alice", "bob", "carol", "dave"], []),
        (["alice", "carol", "dave"], ["bob"]),
        (["alice", "carol", "dave"], ["bob"]),
    ]
    assert [sorted(message.offline) for message in EXPECTED] == [[], [], ["carol"], []]
    assert [message.text for message in EXPECTED] == [step.text for step in STORY if isinstance(step, Say)]


def test_a_right_outcome_has_no_complaint() -> None:
    assert judge(EXPECTED, right()) == []


def test_somebody_who_comes_back_must_read_again() -> None:
    story = (*STORY, Add("alice", ("bob",)), Say("bob", "I am back."))
    assert (expectations(story)[-1].removed, "bob" in expectations(story)[-1].members) == (frozenset(), True)


@pytest.mark.parametrize("account", ["alice", "carol", "dave"])
def test_a_member_who_could_not_read_is_a_complaint(account: str) -> None:
    readings = right()
    readings[account][LAST] = NO_KEY
    seen = f"{account} could not read it, having no key for it"
    assert judge(EXPECTED, readings) == [f"message 4: expected that {account}, a member, reads it; {seen}"]


def test_a_member_whose_key_is_another_one_is_a_complaint() -> None:
    readings = right()
    readings["carol"][LAST] = Reading(has_key=True, text=None)
    assert judge(EXPECTED, readings) == [
        "message 4: expected that carol, a member, reads it; carol could not read it"
    ]


def test_a_member_who_read_another_text_is_a_complaint() -> None:
    readings = right()
    readings["carol"][LAST] = Reading(has_key=True, text="something else")
    assert judge(EXPECTED, readings) == [
        "message 4: expected that carol, a member, reads it; carol read another text"
    ]


def test_a_removed_one_who_could_read_is_a_complaint() -> None:
    readings = right()
    readings["bob"][LAST] = Reading(has_key=True, text=EXPECTED[LAST].text)
    assert judge(EXPECTED, readings) == [
        "message 4: expected that bob, who was removed, cannot read it; bob read it"
    ]


def test_a_removed_one_who_has_the_key_is_a_complaint_even_without_reading() -> None:
    readings = right()
    readings["bob"][LAST] = Reading(has_key=True, text=None)
    assert judge(EXPECTED, readings) == [
        "message 4: expected that bob, who was removed, has no key for it; bob has one"
    ]


def test_a_message_that_reached_nobody_is_a_complaint_for_each() -> None:
    assert len(judge(EXPECTED, {})) == sum(len(message.members | message.removed) for message in EXPECTED)


class Fixed(Subscriber):
    """A reader that read at once what it was given, and in the end something else."""

    def __init__(self, account: str, at_once: list[Reading], in_the_end: list[Reading]) -> None:
        self.account = account
        self.at_once = at_once
        self._in_the_end = in_the_end

    async def in_the_end(self) -> list[Reading]:
        return self._in_the_end


async def test_the_demo_complains_of_a_key_that_reaches_the_removed_one_late() -> None:
    late = right()
    late["bob"][LAST] = Reading(has_key=True, text=EXPECTED[LAST].text)
    readers = [Fixed(account, readings, late[account]) for account, readings in right().items()]
    assert len(await verdict(STORY, readers)) == 1
    assert (
        await verdict(STORY, [Fixed(account, readings, readings) for account, readings in right().items()]) == []
    )


async def test_the_demo_complains_of_a_key_that_reaches_a_member_only_after_its_message() -> None:
    early = right()
    early["carol"][LAST] = NO_KEY
    assert (
        len(await verdict(STORY, [Fixed(account, early[account], all_) for account, all_ in right().items()])) == 1
    )


async def test_whoever_is_offline_need_not_read_at_once_but_when_back() -> None:
    never, late = right(), right()
    never["carol"][2] = late["carol"][2] = NO_KEY
    readers = [Fixed(account, late[account], all_) for account, all_ in right().items()]
    assert await verdict(STORY, readers) == []
    readers = [Fixed(account, all_, never[account]) for account, all_ in right().items()]
    assert await verdict(STORY, readers) == [
        "message 3: expected that carol, a member, reads it; carol could not read it, having no key for it"
    ]
