"""The keyring: a store's identity and secrets, sealed for the TEE, kept by the host as a small blob.

::

    "pmk" ‖ version (1 byte) ‖ key check (8) ‖ salt ‖ AES-256-GCM([store id, signing seed, generations])
    generation = [number, commit, root, secret]

Records are encrypted under the newest *generation* of secrets; older ones stay as long as a record of the window
needs them. A rotation adds one, and says from which commit on (:mod:`pmap.rotation`). The checkpoint key never
changes: it is what two histories of a store are told apart by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES, KEY_BYTES, Randomness, SigningKey, Unauthentic, derive_key, open_once, seal_once
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    LimitExceeded,
    Malformed,
    UnsupportedVersion,
    WrongKey,
)
from wire.limits import MAX_KEY_GENERATIONS, MAX_KEYRING_BYTES
from wire.merkle import EMPTY_ROOT
from wire.record import EPOCH_BYTES, STORE_ID_BYTES

_MAGIC: Final = b"pmk\x01"
_KEY_CHECK_BYTES: Final = 8
_PREFIX_BYTES: Final = len(_MAGIC) + _KEY_CHECK_BYTES
_GENERATION_BYTES: Final = 4  # of an epoch: which generation its key comes from


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """One secret (32 bytes) for records, in use since ``commit``, when the history's root was ``root`` (32 bytes)."""

    number: int
    commit: int
    root: bytes
    secret: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """One store's id (16 bytes) and secrets. ``master`` (32 bytes) is the newest generation's secret."""

    store_id: bytes
    master: bytes
    signing_seed: bytes = b""
    """32 bytes; derived from the master secret of a new store."""
    generations: tuple[Generation, ...] = ()
    """Oldest first."""

    def __post_init__(self) -> None:
        if not self.generations:
            object.__setattr__(self, "generations", (Generation(0, 0, EMPTY_ROOT, self.master),))
        if not self.signing_seed:
            seed = derive_key(self.master, self.store_id, b"checkpoint signing")
            object.__setattr__(self, "signing_seed", seed)

    @classmethod
    def generate(cls, randomness: Randomness) -> Keyring:
        """The keys of a new store."""
        return cls(randomness(STORE_ID_BYTES), randomness(KEY_BYTES))

    def signing_key(self) -> SigningKey:
        """The key that signs this store's checkpoints, the same over its whole life and in every fork of it:
        two signatures on different histories are proof of the fork."""
        return SigningKey(self.signing_seed)

    # --- record keys -------------------------------------------------------------------------------------

    def epoch(self, unique: bytes) -> bytes:
        """Name an epoch (32 bytes): which generation its records are encrypted under, then 28 unique bytes."""
        return self.generations[-1].number.to_bytes(_GENERATION_BYTES, "big") + unique[_GENERATION_BYTES:EPOCH_BYTES]

    def log_key(self, epoch: bytes) -> bytes:
        """The key of one epoch's records. Raises :class:`CorruptedStore` for an epoch of no generation of ours."""
        number = _generation_of(epoch)
        for generation in self.generations:
            if generation.number == number:
                return derive_key(generation.secret, epoch, b"log", self.store_id)
        raise CorruptedStore(
            f"a record is encrypted under generation {number} of the store's keys, and the keyring has"
            f" {self.generations[0].number} to {self.generations[-1].number}: another keyring belongs to these records"
        )

    def rotated(self, randomness: Randomness, commit: int, root: bytes) -> Keyring:
        """A keyring with a new generation for all records after ``commit``, whose history has this ``root``.

        The host stores it, durably, before it stores a record that was made under it. Raises :class:`LimitExceeded`
        while too many older generations are still needed.
        """
        if len(self.generations) >= MAX_KEY_GENERATIONS:
            raise LimitExceeded(
                f"a keyring holds {MAX_KEY_GENERATIONS} generations: rotate again once the older records are gone"
            )
        fresh = Generation(self.generations[-1].number + 1, commit, root, randomness(KEY_BYTES))
        return replace(self, master=fresh.secret, generations=(*self.generations, fresh))

    def retired(self, epochs_in_use: set[bytes]) -> Keyring:
        """Without the generations that are older than all of these epochs. The newest always stays."""
        newest = self.generations[-1].number
        oldest = min((_generation_of(epoch) for epoch in epochs_in_use), default=newest)
        return replace(self, generations=tuple(one for one in self.generations if one.number >= min(oldest, newest)))

    # --- sealing -----------------------------------------------------------------------------------------

    def seal(self, sealing_key: bytes, randomness: Randomness) -> bytes:
        """The blob that the host keeps."""
        prefix = _MAGIC + _key_check(sealing_key)
        return prefix + seal_once(sealing_key, b"keyring", self.encode(), prefix, randomness)

    def encode(self) -> bytes:
        """Canonical bytes, in clear: only for encrypting them."""
        generations = [[one.number, one.commit, one.root, one.secret] for one in self.generations]
        return pack([self.store_id, self.signing_seed, generations])

    @classmethod
    def decode(cls, plaintext: bytes) -> Keyring:
        """Undo :meth:`encode`. Raises :class:`Malformed`."""
        store_id, seed, listed = expect(
            unpack(plaintext, MAX_KEYRING_BYTES, max_arrays=2 + MAX_KEY_GENERATIONS), bytes, bytes, list
        )
        if not 1 <= len(listed) <= MAX_KEY_GENERATIONS or (len(store_id), len(seed)) != (STORE_ID_BYTES, KEY_BYTES):
            raise Malformed("the keyring holds keys of the wrong number or length")
        generations = tuple(_generation(one) for one in listed)
        numbers = [one.number for one in generations]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise Malformed("the keyring's generations do not follow each other")
        return cls(store_id, generations[-1].secret, seed, generations)

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
            return cls.decode(open_once(sealing_key, b"keyring", untrusted_blob[_PREFIX_BYTES:], prefix))
        except (Unauthentic, Malformed) as error:
            raise CorruptedStore("the keyring was altered") from error


def check_sealing_key(key: bytes) -> bytes:
    """Raises :class:`InvalidInput` unless ``key`` is 32 bytes."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InvalidInput(f"a sealing key is {KEY_BYTES} random bytes")
    return key


def _generation(fields: Any) -> Generation:
    number, commit, root, secret = expect(fields, int, int, bytes, bytes)
    if not 0 <= number < 1 << 8 * _GENERATION_BYTES or commit < 0:
        raise Malformed("the keyring has a generation with an impossible number")
    if (len(root), len(secret)) != (HASH_BYTES, KEY_BYTES):
        raise Malformed("the keyring holds keys of the wrong length")
    return Generation(number, commit, root, secret)


def _generation_of(epoch: bytes) -> int:
    return int.from_bytes(epoch[:_GENERATION_BYTES], "big")


def _key_check(sealing_key: bytes) -> bytes:
    return derive_key(sealing_key, b"", b"key check")[:_KEY_CHECK_BYTES]
