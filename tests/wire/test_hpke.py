"""HPKE to the mail key: both kinds of key, and everything that does not open."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wire.crypto import Unauthentic
from wire.errors import Malformed
from wire.hpke import Kem, MailKey, MailPublicKey

SUITES = {
    Kem.X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    Kem.MLKEM768_X25519: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}
LENGTHS = {Kem.X25519: 32, Kem.MLKEM768_X25519: 1216}
KEYS = {kem: MailKey(kem, os.urandom) for kem in Kem}


@pytest.mark.parametrize("kem", list(Kem))
def test_what_is_sealed_to_a_key_opens_with_it_for_the_same_purpose_alone(kem: Kem) -> None:
    key = KEYS[kem]
    assert (key.public.kem, len(key.public.data)) == (kem, LENGTHS[kem])
    sealed = key.public.seal(b"secret", b"purpose")
    assert key.open(sealed, b"purpose") == b"secret"
    assert sealed != key.public.seal(b"secret", b"purpose")
    with pytest.raises(Unauthentic):
        key.open(sealed, b"another")
    for other in (MailKey(kem, os.urandom), *(KEYS[another] for another in Kem if another is not kem)):
        with pytest.raises(Unauthentic):
            other.open(sealed, b"purpose")


@pytest.mark.parametrize("kem", list(Kem))
def test_every_altered_cut_or_foreign_ciphertext_is_unauthentic(kem: Kem) -> None:
    key = KEYS[kem]
    sealed = key.public.seal(b"secret", b"purpose")
    for position in (0, len(sealed) // 2, len(sealed) - 1):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(Unauthentic):
            key.open(bytes(altered), b"purpose")
    for wrong in (b"", sealed[:31], sealed[:-1], sealed + b"\x00"):
        with pytest.raises(Unauthentic):
            key.open(wrong, b"purpose")


def test_a_client_that_knows_the_standard_alone_can_seal_to_either_key() -> None:
    data = KEYS[Kem.X25519].public.data
    sealed = SUITES[Kem.X25519].encrypt(b"secret", X25519PublicKey.from_public_bytes(data), b"purpose")
    assert KEYS[Kem.X25519].open(sealed, b"purpose") == b"secret"
    data = KEYS[Kem.MLKEM768_X25519].public.data
    hybrid = hpke.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(data[:1184]), X25519PublicKey.from_public_bytes(data[1184:])
    )
    sealed = SUITES[Kem.MLKEM768_X25519].encrypt(b"secret", hybrid, b"purpose")
    assert KEYS[Kem.MLKEM768_X25519].open(sealed, b"purpose") == b"secret"


def test_an_enclave_that_knows_the_standard_alone_can_open_what_was_sealed() -> None:
    x25519, mlkem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    public = x25519.public_key().public_bytes_raw()
    sealed = MailPublicKey(Kem.X25519, public).seal(b"secret", b"purpose")
    assert SUITES[Kem.X25519].decrypt(sealed, x25519, b"purpose") == b"secret"
    public = mlkem.public_key().public_bytes_raw() + public
    sealed = MailPublicKey(Kem.MLKEM768_X25519, public).seal(b"secret", b"purpose")
    private = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
    assert SUITES[Kem.MLKEM768_X25519].decrypt(sealed, private, b"purpose") == b"secret"


def test_a_key_pair_comes_from_the_given_randomness_alone() -> None:
    drawn = []

    def randomness(length: int) -> bytes:
        drawn.append(length)
        return bytes([len(drawn)]) * length

    key = MailKey(Kem.MLKEM768_X25519, randomness)
    assert drawn == [32, 64]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(b"\x02" * 64).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key().public_bytes_raw()
    assert key.public == MailPublicKey(Kem.MLKEM768_X25519, mlkem + x25519)


@pytest.mark.parametrize("kem", list(Kem))
def test_a_public_key_of_another_length_is_malformed(kem: Kem) -> None:
    for length in (0, 31, 33, 1184, 1215, 1217, LENGTHS[Kem.X25519 if kem is not Kem.X25519 else Kem.MLKEM768_X25519]):
        with pytest.raises(Malformed):
            MailPublicKey(kem, bytes(length))


def test_nothing_is_sealed_to_a_key_that_is_none() -> None:
    with pytest.raises(Malformed):
        MailPublicKey(Kem.X25519, bytes(32)).seal(b"secret", b"purpose")
    with pytest.raises(Malformed):
        MailPublicKey(Kem.MLKEM768_X25519, b"\xff" * 1216).seal(b"secret", b"purpose")
