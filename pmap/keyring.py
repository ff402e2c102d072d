"""The keyring: a store's identity and master secret, sealed for the TEE, kept by the host as a small blob.

Everything else is derived from the master secret by HKDF with its own label (:func:`wire.crypto.derive_key`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire.codec import expect, pack, unpack
from wire.crypto import KEY_BYTES, Randomness, SigningKey, Unauthentic, derive_key, open_once, seal_once
from wire.errors import CorruptedStore, InvalidInput, Malformed, UnsupportedVersion, WrongKey
from wire.limits import MAX_KEYRING_BYTES
from wire.record import STORE_ID_BYTES

_MAGIC: Final = b"pmk\x01"
_KEY_CHECK_BYTES: Final = 8
_PREFIX_BYTES: Final = len(_MAGIC) + _KEY_CHECK_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """One store's id (16 bytes) and master secret (32 bytes)."""

    store_id: bytes
    master: bytes

    @classmethod
    def generate(cls, randomness: Randomness) -> Keyring:
        """The keys of a new store."""
        return cls(randomness(STORE_ID_BYTES), randomness(KEY_BYTES))

    def signing_key(self) -> SigningKey:
        """The key that signs this store's checkpoints, the same over its whole life and in every fork of it:
        two signatures on different histories are proof of the fork."""
        return SigningKey(derive_key(self.master, self.store_id, b"checkpoint signing"))

    def log_key(self, epoch: bytes) -> bytes:
        """The key of one epoch's records."""
        return derive_key(self.master, epoch, b"log", self.store_id)

    def seal(self, sealing_key: bytes, randomness: Randomness) -> bytes:
        """The blob that the host keeps."""
        prefix = _MAGIC + _key_check(sealing_key)
        return prefix + seal_once(sealing_key, b"keyring", pack([self.store_id, self.master]), prefix, randomness)

    @classmethod
    def unseal(cls, sealing_key: bytes, untrusted_blob: bytes) -> Keyring:
        """Open the blob.

        Raises:
            CorruptedStore: altered bytes.
            UnsupportedVersion: a keyring of another format version.
            WrongKey: sealed with another key.
        """
        if not _PREFIX_BYTES < len(untrusted_blob) <= MAX_KEYRING_BYTES or untrusted_blob[:3] != _MAGIC[:3]:
            raise CorruptedStore("the keyring is not a keyring")
        if untrusted_blob[: len(_MAGIC)] != _MAGIC:
            raise UnsupportedVersion(f"a keyring of format version {untrusted_blob[3]}; this code reads version 1")
        prefix = untrusted_blob[:_PREFIX_BYTES]
        # The check value commits to the key, so that a wrong key is told from altered bytes.
        if prefix[len(_MAGIC) :] != _key_check(sealing_key):
            raise WrongKey("this store was sealed with another key: use the key that created it")
        try:
            plaintext = open_once(sealing_key, b"keyring", untrusted_blob[_PREFIX_BYTES:], prefix)
            store_id, master = expect(unpack(plaintext, MAX_KEYRING_BYTES), bytes, bytes)
        except (Unauthentic, Malformed) as error:
            raise CorruptedStore("the keyring was altered") from error
        if len(store_id) != STORE_ID_BYTES or len(master) != KEY_BYTES:
            raise CorruptedStore("the keyring holds keys of the wrong length")
        return cls(store_id, master)


def check_sealing_key(key: bytes) -> bytes:
    """Raises :class:`InvalidInput` unless ``key`` is 32 bytes."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InvalidInput(f"a sealing key is {KEY_BYTES} random bytes")
    return key


def _key_check(sealing_key: bytes) -> bytes:
    return derive_key(sealing_key, b"", b"key check")[:_KEY_CHECK_BYTES]
