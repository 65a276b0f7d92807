"""The verification of the demo: it must find every wrong outcome."""

import pytest

from worker.cli.demo.command import verify
from worker.cli.demo.story import STORY, Reading, Step, accounts_in, differences, expectations
from worker.cli.demo.subscriber import Subscriber

EXPECTED = expectations(STORY)
LAST = len(EXPECTED) - 1
NO_KEY = Reading(has_key=False, text=None)
Readings = dict[str, list[Reading]]


def correct() -> Readings:
    """Return the readings of a correct run, by account."""
    return {
        account: [
            Reading(has_key=True, text=message.text) if account in message.members else NO_KEY for message in EXPECTED
        ]
        for account in accounts_in(STORY)
    }


def test_story_demands_follow_from_its_steps() -> None:
    accounts = accounts_in(STORY)
    assert accounts == ["alice", "bob", "carol", "dave"]
    assert [(sorted(message.members), sorted(message.removed)) for message in EXPECTED] == [
        (["alice", "bob", "carol"], []),
        (["alice", "bob", "carol", "dave"], []),
        (["alice", "carol", "dave"], ["bob"]),
        (["alice", "carol", "dave"], ["bob"]),
    ]
    assert [sorted(message.offline) for message in EXPECTED] == [[], [], ["carol"], []]
    assert [message.text for message in EXPECTED] == [step.text for step in STORY if step.does == "say"]


def test_correct_outcome_has_no_differences() -> None:
    assert differences(EXPECTED, correct()) == []


def test_removed_account_that_is_added_again_must_read() -> None:
    story = (*STORY, Step("alice", "add", ("bob",)), Step("bob", "say", text="I am back."))
    assert (expectations(story)[-1].removed, "bob" in expectations(story)[-1].members) == (frozenset(), True)


@pytest.mark.parametrize("account", ["alice", "carol", "dave"])
def test_member_that_could_not_read_is_a_difference(account: str) -> None:
    readings = correct()
    readings[account][LAST] = NO_KEY
    assert differences(EXPECTED, readings) == [f"message 4: the member {account} should read it, but has no key for it"]


def test_member_with_a_wrong_key_is_a_difference() -> None:
    readings = correct()
    readings["carol"][LAST] = Reading(has_key=True, text=None)
    assert differences(EXPECTED, readings) == ["message 4: the member carol should read it, but could not"]


def test_member_that_read_a_different_text_is_a_difference() -> None:
    readings = correct()
    readings["carol"][LAST] = Reading(has_key=True, text="something else")
    assert differences(EXPECTED, readings) == ["message 4: the member carol should read it, but read a different text"]


def test_removed_account_that_could_read_is_a_difference() -> None:
    readings = correct()
    readings["bob"][LAST] = Reading(has_key=True, text=EXPECTED[LAST].text)
    assert differences(EXPECTED, readings) == ["message 4: the removed bob should not read it, but did"]


def test_removed_account_that_has_the_key_is_a_difference_even_if_it_read_nothing() -> None:
    readings = correct()
    readings["bob"][LAST] = Reading(has_key=True, text=None)
    assert differences(EXPECTED, readings) == ["message 4: the removed bob should have no key for it, but has one"]


def test_message_that_reached_no_account_is_a_difference_for_each() -> None:
    assert len(differences(EXPECTED, {})) == sum(len(message.members | message.removed) for message in EXPECTED)


class Fixed(Subscriber):
    """A subscriber with given readings: when the messages came, and at the end."""

    def __init__(self, account: str, on_arrival: list[Reading], at_end: list[Reading]) -> None:
        self.account = account
        self.on_arrival = on_arrival
        self._at_end = at_end

    async def read_everything(self) -> list[Reading]:
        return self._at_end


def subscribers(on_arrival: Readings, at_end: Readings) -> list[Fixed]:
    return [Fixed(account, on_arrival[account], at_end[account]) for account in accounts_in(STORY)]


async def test_verification_of_a_correct_run_finds_nothing() -> None:
    assert await verify(STORY, subscribers(correct(), correct())) == []


async def test_verification_fails_if_the_removed_account_gets_the_key_late() -> None:
    late = correct()
    late["bob"][LAST] = Reading(has_key=True, text=EXPECTED[LAST].text)
    assert len(await verify(STORY, subscribers(correct(), late))) == 1


async def test_verification_fails_if_a_member_gets_the_key_after_the_message() -> None:
    early = correct()
    early["carol"][LAST] = NO_KEY
    assert len(await verify(STORY, subscribers(early, correct()))) == 1


async def test_offline_member_must_read_only_after_it_came_back() -> None:
    without = correct()
    without["carol"][2] = NO_KEY
    assert await verify(STORY, subscribers(without, correct())) == []
    assert await verify(STORY, subscribers(correct(), without)) == [
        "message 3: the member carol should read it, but has no key for it"
    ]
