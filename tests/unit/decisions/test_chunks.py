"""What is owed to many goes into several entries, in order, with one result at the end."""

from dataclasses import replace

from roomkeys.decisions.chunks import CHUNK_BYTES, in_chunks
from roomkeys.decisions.decide import reject
from roomkeys.decisions.decision import DeadLetter, OutboxEntry, Outcome
from roomkeys.errors import ErrorInfo
from roomkeys.events.decode import decode, parse
from roomkeys.membership import Member
from roomkeys.subjects import Operation
from tests.unit.builders import incoming


def outcome(sequence: int, removed: int) -> Outcome:
    members = tuple(Member(f"s{number}", f"u{number}", f"a{number}") for number in range(removed))
    return Outcome(sequence, Operation.REMOVE, 0, removed=members)


def test_what_fits_stays_one_entry() -> None:
    owed = OutboxEntry("r1", (outcome(1, 2), outcome(2, 1)), ("bob",), 4)
    assert list(in_chunks(owed, most=3)) == [owed]


def test_an_event_with_many_members_comes_in_chunks_and_only_the_last_is_final() -> None:
    parts = list(in_chunks(OutboxEntry("r1", (outcome(1, 5), outcome(2, 1)), (), 4), most=2))
    pieces = [piece for part in parts for piece in part.outcomes]
    assert [(piece.sequence, len(piece.removed), piece.final) for piece in pieces] == [
        (1, 2, False),
        (1, 2, False),
        (1, 1, True),
        (2, 1, True),
    ]
    assert [member for piece in pieces if piece.sequence == 1 for member in piece.removed] == list(
        outcome(1, 5).removed
    )
    assert {(part.room_id, part.high) for part in parts} == {("r1", 4)}


def test_joiners_are_spread_over_the_entries_and_none_is_lost() -> None:
    joiners = tuple(f"a{number}" for number in range(7))
    parts = list(in_chunks(OutboxEntry("r1", (outcome(1, 1),), joiners), most=3))
    assert [len(part.joiners) for part in parts] == [3, 3, 1]
    assert tuple(account for part in parts for account in part.joiners) == joiners
    assert sum(len(part.outcomes) for part in parts) == 1


def test_nobody_joins_in_a_part_before_the_one_that_tells_of_it() -> None:
    """Recovery pays part by part, and whoever is brought a key must have been told of the room."""
    joiners = tuple(f"a{number}" for number in range(4))
    parts = list(in_chunks(OutboxEntry("r1", (outcome(1, 5), outcome(2, 1)), joiners), most=2))
    assert [(len(part.outcomes), len(part.joiners)) for part in parts] == [(1, 0), (1, 0), (2, 2), (0, 2)]
    assert tuple(account for part in parts for account in part.joiners) == joiners


def test_an_outcome_without_members_is_one_final_part() -> None:
    assert [part.outcomes for part in in_chunks(OutboxEntry(None, (outcome(1, 0),)))] == [(outcome(1, 0),)]


def test_bodies_of_dead_letters_count_as_well() -> None:
    large = bytes(CHUNK_BYTES * 3 // 4)
    letters = tuple(replace(outcome(number, 0), letter=DeadLetter("s", large)) for number in range(4))
    parts = list(in_chunks(OutboxEntry(None, letters)))
    assert [len(part.outcomes) for part in parts] == [1, 1, 1, 1]
    small = tuple(replace(outcome(number, 0), letter=DeadLetter("s", b"{")) for number in range(256))
    assert len(list(in_chunks(OutboxEntry(None, small)))) == 1


def test_a_body_too_long_to_be_kept_is_cut_and_says_so() -> None:
    message = incoming("create", bytes(CHUNK_BYTES + 1))
    poison = decode(message, parse(message.body))
    assert poison is not None
    letter = reject(poison, ErrorInfo("bad_request", "invalid_event", ""), site="s", now_ms=0).letter
    assert letter is not None
    assert (len(letter.body), letter.truncated) == (CHUNK_BYTES, True)
