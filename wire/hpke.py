"""HPKE (RFC 9180, base mode, one shot) to the enclave's attested mail key.

The default KEM is the hybrid of ML-KEM-768 and X25519, so recorded hellos stay closed to a later quantum computer;
X25519 alone is allowed. ``cryptography`` has no public AAD here: what the ciphertext belongs to goes into ``info``.
Public keys on the wire: ML-KEM-768 (1184 bytes) ‖ X25519 (32 bytes), or X25519 (32 bytes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wire.crypto import Randomness, Unauthentic
from wire.errors import Malformed

_MLKEM_PUBLIC_BYTES: Final = 1184
_X25519_BYTES: Final = 32
_MLKEM_SEED_BYTES: Final = 64


class Kem(IntEnum):
    """Key encapsulation of the mail key."""

    X25519 = 1
    MLKEM768_X25519 = 2


@dataclass(frozen=True, slots=True)
class MailPublicKey:
    """The public half of an enclave's mail key."""

    kem: Kem
    data: bytes

    def __post_init__(self) -> None:
        expected = _X25519_BYTES if self.kem is Kem.X25519 else _MLKEM_PUBLIC_BYTES + _X25519_BYTES
        if len(self.data) != expected:
            raise Malformed(f"a {self.kem.name} mail key has {expected} bytes, not {len(self.data)}")

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Encrypt to the key: encapsulation ‖ ciphertext. Raises :class:`Malformed` for an impossible key."""
        try:
            if self.kem is Kem.X25519:
                return _suite(self.kem).encrypt(plaintext, X25519PublicKey.from_public_bytes(self.data), info)
            key = hpke.MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.data[:_MLKEM_PUBLIC_BYTES]),
                X25519PublicKey.from_public_bytes(self.data[_MLKEM_PUBLIC_BYTES:]),
            )
            return _suite(self.kem).encrypt(plaintext, key, info)
        except ValueError as error:
            raise Malformed("the mail key is not a valid public key") from error


class MailKey:
    """An enclave's mail key pair, made anew for every epoch and never stored."""

    __slots__ = ("_private", "_suite", "public")

    def __init__(self, kem: Kem, randomness: Randomness) -> None:
        x25519 = X25519PrivateKey.from_private_bytes(randomness(_X25519_BYTES))
        self._suite = _suite(kem)
        self._private: X25519PrivateKey | hpke.MLKEM768X25519PrivateKey = x25519
        public = x25519.public_key().public_bytes_raw()
        if kem is Kem.MLKEM768_X25519:
            mlkem = MLKEM768PrivateKey.from_seed_bytes(randomness(_MLKEM_SEED_BYTES))
            self._private = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
            public = mlkem.public_key().public_bytes_raw() + public
        self.public = MailPublicKey(kem, public)

    def open(self, untrusted: bytes, info: bytes) -> bytes:
        """Decrypt. Raises :class:`wire.crypto.Unauthentic`."""
        try:
            return self._suite.decrypt(untrusted, self._private, info)
        except (InvalidTag, ValueError) as error:
            raise Unauthentic("not encrypted to this epoch's mail key for this purpose") from error


def _suite(kem: Kem) -> hpke.Suite:
    chosen = hpke.KEM.X25519 if kem is Kem.X25519 else hpke.KEM.MLKEM768_X25519
    return hpke.Suite(chosen, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
