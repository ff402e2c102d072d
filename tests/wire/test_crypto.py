"""The building blocks: held against the standards, and every change of what they bind is noticed."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from wire.crypto import (
    SEAL_OVERHEAD_BYTES,
    HmacKey,
    SigningKey,
    Unauthentic,
    derive_key,
    open_once,
    seal_once,
    sha256,
    verify,
)

SECRET = bytes(range(32))


def test_a_hash_is_sha_256() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_derived_key_is_that_of_hkdf_over_label_and_parts_with_their_lengths() -> None:
    for parts, info in (
        ((), b"pmap/1 label"),
        ((b"one",), b"pmap/1 label\x00\x00\x00\x03one"),
        ((b"one", b"", b"x" * 300), b"pmap/1 label\x00\x00\x00\x03one\x00\x00\x00\x00\x00\x00\x01\x2c" + b"x" * 300),
    ):
        expected = HKDF(SHA256(), 32, b"salt", info).derive(SECRET)
        assert derive_key(SECRET, b"salt", b"label", *parts) == expected


@pytest.mark.parametrize("length", [0, 1, 31, 32, 63, 64])
def test_a_key_that_is_set_up_once_gives_hmac_sha_256_every_time(length: int) -> None:
    secret = bytes(range(100, 100 + length))
    key = HmacKey(secret)
    for message in (b"", b"message", b"x" * 1000, b""):
        assert key.digest(message) == hmac.digest(secret, message, hashlib.sha256)


def test_a_sealed_message_is_its_salt_and_gcm_under_a_key_expanded_for_it() -> None:
    salt = b"\x07" * 32
    asked = []

    def randomness(length: int) -> bytes:
        asked.append(length)
        return salt

    key = HKDFExpand(SHA256(), 32, b"pmap/1 message label" + salt).derive(SECRET)
    expected = salt + AESGCM(key).encrypt(bytes(12), b"message", b"aad")
    for secret in (SECRET, HmacKey(SECRET)):
        assert seal_once(secret, b"label", b"message", b"aad", randomness) == expected
        assert open_once(secret, b"label", expected, b"aad") == b"message"
    assert asked == [32, 32]


def test_a_sealed_message_opens_as_it_is_under_its_key_label_and_associated_data_alone() -> None:
    sealed = seal_once(SECRET, b"label", b"message", b"aad", os.urandom)
    assert len(sealed) == SEAL_OVERHEAD_BYTES + len(b"message")
    assert open_once(HmacKey(SECRET), b"label", sealed, b"aad") == b"message"
    for secret, label, aad in (
        (bytes(32), b"label", b"aad"),
        (SECRET, b"other", b"aad"),
        (SECRET, b"label", b"other"),
        (SECRET, b"label", b""),
    ):
        with pytest.raises(Unauthentic):
            open_once(secret, label, sealed, aad)
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(Unauthentic):
            open_once(SECRET, b"label", bytes(altered), b"aad")
    for length in range(len(sealed)):
        with pytest.raises(Unauthentic):
            open_once(SECRET, b"label", sealed[:length], b"aad")


def test_an_empty_message_has_the_shortest_sealed_form() -> None:
    sealed = seal_once(SECRET, b"label", b"", b"", os.urandom)
    assert len(sealed) == SEAL_OVERHEAD_BYTES == 48
    assert open_once(SECRET, b"label", sealed, b"") == b""
    with pytest.raises(Unauthentic, match="too short"):
        open_once(SECRET, b"label", sealed[:-1], b"")


def test_a_signature_is_ed25519_by_the_key_of_the_seed() -> None:
    key, standard = SigningKey(SECRET), Ed25519PrivateKey.from_private_bytes(SECRET)
    assert key.public == standard.public_key().public_bytes_raw()
    assert key.sign(b"message") == standard.sign(b"message")
    verify(key.public, key.sign(b"message"), b"message")


def test_a_signature_holds_for_its_key_and_message_alone() -> None:
    key = SigningKey(SECRET)
    signature = key.sign(b"message")
    for public, signed, message in (
        (SigningKey(bytes(32)).public, signature, b"message"),
        (key.public, signature, b"other"),
        (key.public, signature[:-1], b"message"),
        (key.public, bytes(64), b"message"),
        (key.public[:-1], signature, b"message"),
        (b"", signature, b"message"),
    ):
        with pytest.raises(Unauthentic):
            verify(public, signed, message)
