"""A large outbox entry becomes several chunks, in order, with one final outcome per event."""

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


def test_entry_that_fits_stays_whole() -> None:
    entry = OutboxEntry("r1", (outcome(1, 2), outcome(2, 1)), ("bob",), 4)
    assert list(in_chunks(entry, most=3)) == [entry]


def test_outcome_with_many_members_is_cut_and_only_the_last_piece_is_final() -> None:
    chunks = list(in_chunks(OutboxEntry("r1", (outcome(1, 5), outcome(2, 1)), (), 4), most=2))
    pieces = [piece for chunk in chunks for piece in chunk.outcomes]
    assert [(piece.sequence, len(piece.removed), piece.final) for piece in pieces] == [
        (1, 2, False),
        (1, 2, False),
        (1, 1, True),
        (2, 1, True),
    ]
    assert [member for piece in pieces if piece.sequence == 1 for member in piece.removed] == list(
        outcome(1, 5).removed
    )
    assert {(chunk.room_id, chunk.high) for chunk in chunks} == {("r1", 4)}


def test_joiners_are_spread_over_chunks_without_loss() -> None:
    joiners = tuple(f"a{number}" for number in range(7))
    chunks = list(in_chunks(OutboxEntry("r1", (outcome(1, 1),), joiners), most=3))
    assert [len(chunk.joiners) for chunk in chunks] == [3, 3, 1]
    assert tuple(account for chunk in chunks for account in chunk.joiners) == joiners
    assert sum(len(chunk.outcomes) for chunk in chunks) == 1


def test_joiner_is_never_in_a_chunk_before_its_notice() -> None:
    """Recovery delivers chunk by chunk, and a joiner must be notified of the room before it gets the key."""
    joiners = tuple(f"a{number}" for number in range(4))
    chunks = list(in_chunks(OutboxEntry("r1", (outcome(1, 5), outcome(2, 1)), joiners), most=2))
    assert [(len(chunk.outcomes), len(chunk.joiners)) for chunk in chunks] == [(1, 0), (1, 0), (2, 2), (0, 2)]
    assert tuple(account for chunk in chunks for account in chunk.joiners) == joiners


def test_outcome_without_members_is_one_final_chunk() -> None:
    assert [chunk.outcomes for chunk in in_chunks(OutboxEntry(None, (outcome(1, 0),)))] == [(outcome(1, 0),)]


def test_bodies_of_dead_letters_count_towards_a_chunk() -> None:
    large = bytes(CHUNK_BYTES * 3 // 4)
    letters = tuple(replace(outcome(number, 0), letter=DeadLetter("s", large)) for number in range(4))
    chunks = list(in_chunks(OutboxEntry(None, letters)))
    assert [len(chunk.outcomes) for chunk in chunks] == [1, 1, 1, 1]
    small = tuple(replace(outcome(number, 0), letter=DeadLetter("s", b"{")) for number in range(256))
    assert len(list(in_chunks(OutboxEntry(None, small)))) == 1


def test_long_body_of_a_dead_letter_is_truncated_and_marked() -> None:
    message = incoming("create", bytes(CHUNK_BYTES + 1))
    invalid = decode(message, parse(message.body))
    assert invalid is not None
    letter = reject(invalid, ErrorInfo("bad_request", "invalid_event", ""), site="s", now_ms=0).letter
    assert letter is not None
    assert (len(letter.body), letter.truncated) == (CHUNK_BYTES, True)
