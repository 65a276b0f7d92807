"""A frame has exactly one publish per account, and no account can forge a protocol line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.events.event import StreamMessage
from roomkeys.keys import KeyRecord, RoomKey
from roomkeys.messages.frame import Recipients, frame, message, split
from roomkeys.messages.room_key import RoomKeyEvent
from roomkeys.tokens import is_token

PAYLOAD = b'{"roomId":"r1","version":3}'
HOSTILE = [
    "",
    " ",
    "a b",
    "x.y",
    "*",
    ">",
    "a>",
    "a\r\nPUB x 0\r\n",
    "a\nb",
    "a\tb",
    "a\x00",
    "a\x1fb",
    "a\x7f",
    "a\xa0b",
    "a\x85b",
    "a\u2028b",
    "a\ud800",
    "a" * 256,
    "é" * 128,
    ".bot",
    "a b.bot",
    "a.bot.bot",
]
accounts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(is_token)
anything = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=8), accounts, accounts.map(lambda account: f"{account}.bot")
)


def naive(page: list[str], payload: bytes) -> bytes:
    """Return the bytes of one publish per account, written as the description of the protocol says."""
    lines = (f"PUB chat.user.{account}.event.room.key {len(payload)}\r\n".encode() for account in page)
    return b"".join(line + payload + b"\r\n" for line in lines)


@given(st.lists(accounts), st.binary(max_size=64))
def test_frame_equals_one_publish_per_account(page: list[str], payload: bytes) -> None:
    recipients = split(page)
    assert recipients == Recipients(page)
    assert frame(recipients.accounts, payload) == naive(page, payload)


def test_frame_for_two_accounts_has_exact_bytes() -> None:
    assert frame(["alice", "陳愛麗"], b"{}") == (
        b"PUB chat.user.alice.event.room.key 2\r\n{}\r\n"
        b"PUB chat.user.\xe9\x99\xb3\xe6\x84\x9b\xe9\xba\x97.event.room.key 2\r\n{}\r\n"
    )


def test_message_has_exact_bytes() -> None:
    assert message("a.b", b"hi", {}) == b"PUB a.b 2\r\nhi\r\n"
    head = b"NATS/1.0\r\nX: 1\r\nY: 2\r\n\r\n"
    assert message("a.b", b"hi", {"X": "1", "Y": "2"}) == b"HPUB a.b 24 26\r\n" + head + b"hi\r\n"
    assert len(head) == 24


def test_empty_page_gives_no_bytes() -> None:
    assert split([]) == Recipients([])
    assert frame([], PAYLOAD) == b""


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("others", [[], ["alice"], ["alice", "bob"], ["陳愛麗"]])
def test_hostile_account_is_left_out_and_counted(hostile: str, others: list[str]) -> None:
    for page in ([hostile, *others], [*others, hostile]):
        assert split(page) == Recipients(others, refused=1)


@given(st.lists(anything, max_size=12))
def test_split_returns_only_tokens(page: list[str]) -> None:
    recipients = split(page)
    assert list(recipients.accounts) == [account for account in page if is_token(account)]
    bots = sum(account.endswith(".bot") and is_token(account[:-4]) for account in page)
    assert recipients.refused == len(page) - len(recipients.accounts) - bots


@given(st.lists(anything, max_size=12))
def test_frame_has_one_line_per_account_for_any_page(page: list[str]) -> None:
    recipients = split(page)
    wire = frame(recipients.accounts, b"{}")
    assert wire.count(b"\r\n") == 2 * len(recipients.accounts)
    assert wire.count(b"PUB chat.user.") == len(recipients.accounts)


@pytest.mark.parametrize(("first", "second"), [("a\nb", ""), ("", "a\nb"), ("", ""), ("a\n", "b")])
def test_two_invalid_accounts_do_not_cancel_out(first: str, second: str) -> None:
    assert not {first, second} & set(split([first, "alice", second]).accounts) - {"b"}


def test_dotted_bots_are_neither_recipients_nor_refused() -> None:
    assert split(["alice", "helper.bot", "p_app", "bob"]) == Recipients(["alice", "p_app", "bob"], refused=0)


@pytest.mark.parametrize("odd", [None, 5, b"bob", ["bob"], {"account": "bob"}, 1.5])
def test_account_that_is_not_text_is_refused(odd: object) -> None:
    assert split(["alice", odd, "helper.bot"]) == Recipients(["alice"], refused=1)


def test_longest_token_is_accepted() -> None:
    assert split(["a" * 255, "é" * 127]).refused == 0


def test_repr_never_shows_a_secret() -> None:
    key = RoomKey(3, b"CANARY" * 5 + b"xy")
    record = KeyRecord(current=key, staged=key, replaced=(key,))
    message = StreamMessage(1, 0, "chat.room.canonical.site-a.create", b"CANARY")
    for shown in (key, record, RoomKeyEvent("r1", key), message):
        assert "CANARY" not in f"{shown!r} {shown}"
    assert repr(key) == "RoomKey(version=3)"


def test_generated_keys_have_32_bytes_and_differ() -> None:
    first, second = RoomKey.generate(1), RoomKey.generate(1)
    assert len(first.secret) == len(second.secret) == 32
    assert first.secret != second.secret
