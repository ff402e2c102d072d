"""The cryptographic building blocks: HKDF-SHA256, AES-256-GCM, Ed25519, HPKE; one label per use.

Nonce rule of the whole project: *a key derived here encrypts once.* :func:`seal_once` draws a fresh
256-bit salt for every message and derives a key from it, so the nonce can be constant and no counter has
to survive a restart, a rollback or a fork. The commit log is the one exception: it derives one key per
epoch (32 fresh random bytes at each start) and uses the record number as the nonce (``pmap.log``).

Sources: RFC 5869 (HKDF), NIST SP 800-38D (GCM), RFC 8032 (Ed25519), RFC 9180 (HPKE).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 12
HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32

_ZERO_NONCE: Final = bytes(NONCE_BYTES)
_SHA256_BLOCK_BYTES: Final = 64
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
SEAL_OVERHEAD_BYTES: Final = SALT_BYTES + TAG_BYTES


class Randomness(Protocol):
    """Where secrets and salts come from: a function from a length in bytes to that many random bytes."""

    def __call__(self, length: int, /) -> bytes: ...


system_randomness: Randomness = os.urandom


class Unauthentic(Exception):
    """A ciphertext or signature that was not made with this key. Callers turn it into their own verdict."""


def sha256(data: bytes) -> bytes:
    """SHA-256 of ``data``."""
    return hashlib.sha256(data).digest()


def derive_key(secret: bytes, salt: bytes, label: bytes, *context: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) to 32 bytes: info = label and each context part, length-prefixed.

    One output block is enough for a 256-bit key, so extract and expand are one HMAC each.
    """
    info = b"pmap/1 " + label
    for part in context:
        info += len(part).to_bytes(4, "big") + part
    pseudorandom_key = hmac.digest(salt, secret, "sha256")
    return hmac.digest(pseudorandom_key, info + b"\x01", "sha256")


class HmacKey:
    """A 32-byte secret that HMAC-SHA256 is keyed with once, for many messages: less than half the time of each."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        # RFC 2104: the hash of each padded key's block is what all messages begin with.
        block = secret.ljust(_SHA256_BLOCK_BYTES, b"\x00")
        self._inner = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))

    def digest(self, message: bytes) -> bytes:
        """HMAC-SHA256 of ``message``."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


Secret: TypeAlias = bytes | HmacKey
"""What message keys are derived from: 32 bytes, or (faster) the same keyed once."""


def _message_key(secret: Secret, salt: bytes, label: bytes) -> bytes:
    """HKDF-Expand with info = label ‖ salt: the key of one message."""
    message = b"pmap/1 message " + label + salt + b"\x01"
    return hmac.digest(secret, message, "sha256") if isinstance(secret, bytes) else secret.digest(message)


def seal_once(secret: Secret, label: bytes, plaintext: bytes, aad: bytes, randomness: Randomness) -> bytes:
    """Encrypt one message: ``salt(32) ‖ AES-256-GCM(message key, nonce 0, plaintext, aad)``.

    ``secret`` is 32 bytes that are uniformly random or derived: a key of HKDF-Expand as it is (RFC 5869 §3.3).
    """
    salt = randomness(SALT_BYTES)
    key = _message_key(secret, salt, label)
    # The nonce is constant because this key exists for this one message.
    return salt + AESGCM(key).encrypt(_ZERO_NONCE, plaintext, aad)


def open_once(secret: Secret, label: bytes, untrusted: bytes, aad: bytes) -> bytes:
    """Undo :func:`seal_once`. Raises :class:`Unauthentic`."""
    if len(untrusted) < SEAL_OVERHEAD_BYTES:
        raise Unauthentic("too short to be a sealed message")
    key = _message_key(secret, untrusted[:SALT_BYTES], label)
    try:
        return AESGCM(key).decrypt(_ZERO_NONCE, untrusted[SALT_BYTES:], aad)
    except InvalidTag as error:
        raise Unauthentic("the message was not sealed with this key for this purpose") from error


class SigningKey:
    """An Ed25519 private key and its 32-byte public key."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature (RFC 8032)."""
        return self._key.sign(message)


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature. Raises :class:`Unauthentic`, also for a key that is no point."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Unauthentic("the signature is not by this key") from error
