"""Envelopes: the key that sealed a message opens it, and no other key does."""

from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from roomkeys.client.envelope import EncryptedMessage, read_envelope, seal, unseal
from roomkeys.client.errors import DecryptionFailed, InvalidEnvelope
from roomkeys.keys import RoomKey

KEY = RoomKey(7, bytes(range(32)))


@given(st.binary(max_size=300))
def test_a_sealed_message_is_opened_from_a_mapping_and_from_json(text: bytes) -> None:
    sealed = seal(KEY, text)
    assert unseal(KEY, read_envelope(sealed)) == text
    assert unseal(KEY, read_envelope(orjson.dumps(sealed))) == text


def test_the_cipher_is_aes_256_gcm_with_the_tag_at_the_end_and_no_additional_data() -> None:
    sealed = seal(KEY, b"hello")
    nonce, ciphertext = b64decode(sealed["nonce"]), b64decode(sealed["ciphertext"])
    assert list(sealed) == ["version", "nonce", "ciphertext"]
    assert (sealed["version"], len(nonce), len(ciphertext)) == (7, 12, 5 + 16)
    assert AESGCM(KEY.secret).decrypt(nonce, ciphertext, b"") == b"hello"


def test_no_nonce_is_used_twice() -> None:
    assert len({seal(KEY, b"")["nonce"] for _ in range(1000)}) == 1000


def test_another_key_or_a_changed_message_fails_to_decrypt() -> None:
    sealed = seal(KEY, b"hello")
    with pytest.raises(DecryptionFailed, match=r"^key 7 does not open this message$"):
        unseal(RoomKey(7, bytes(32)), read_envelope(sealed))
    raw = bytearray(b64decode(sealed["ciphertext"]))
    raw[0] ^= 1
    changed: EncryptedMessage = {**sealed, "ciphertext": b64encode(raw).decode()}
    with pytest.raises(DecryptionFailed):
        unseal(KEY, read_envelope(changed))
    with pytest.raises(DecryptionFailed):
        unseal(KEY, read_envelope({**sealed, "ciphertext": ""}))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": None}, "version"),
        ({"version": True}, "version"),
        ({"version": -1}, "version"),
        ({"version": 2**60}, "version"),
        ({"version": "7"}, "version"),
        ({"nonce": None}, "nonce"),
        ({"nonce": "AAAA"}, "nonce"),
        ({"nonce": "!"}, "nonce"),
        ({"ciphertext": "a b"}, "ciphertext"),
        ({"ciphertext": 5}, "ciphertext"),
    ],
)
def test_a_malformed_field_is_named_in_the_error(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEnvelope, match=f"^{field} must be"):
        read_envelope({**seal(KEY, b""), **change})


@pytest.mark.parametrize("data", [b"", b"[]", b"nonsense", b"\xff"])
def test_bytes_that_are_not_a_json_object_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope, match="JSON"):
        read_envelope(data)
