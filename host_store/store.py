"""What a host keeps for one enclave, as an interface: the keyring, a window of records, leaf hashes, an outbox.

Everything in a store is opaque to it, and nothing in it is trusted by the enclave: a store that lies is found out
by the enclave's AEAD and history. What it owes its *own* side is that an acknowledged call is durable and
all-or-nothing, also over a crash, and that each commit number is used once. That little can be had from LMDB, from
PostgreSQL, from etcd and from S3 alike; ``tests/host_store/test_store_contract.py`` runs against all of them.

Calls may come from several threads. Every implementation raises only :class:`wire.errors.StoreError` and its
subclasses, :class:`wire.errors.InvalidInput` and :class:`wire.errors.LimitExceeded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ADDRESS_BYTES: Final = 16
"""Length of a session's address."""
LEAF_BYTES: Final = 32
"""Length of a leaf hash and of every other node of the Merkle tree (SHA-256)."""


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One encrypted reply or mail that waits for its recipient."""

    n: int
    """The commit that made it."""
    index: int
    """Its place in that commit, 0..2**32-1."""
    address: bytes
    """The session it is for (16 bytes)."""
    message: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The window of records that a store keeps: ``first..n``, both included."""

    n: int
    """The newest record's number; 0: none."""
    first: int
    """The oldest kept record's number; n + 1 if there is none."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A store's size, for people. Counts are exact, bytes are what the engine says of itself."""

    file_bytes: int
    used_bytes: int
    """Without what is free for reuse."""
    records: int
    outbox_items: int


class Store(Protocol):
    """See the module's docstring. Numbers count from 1 without gaps; ranges are half open."""

    def keyring(self) -> bytes | None:
        """The sealed keyring; None before :meth:`create`."""
        ...

    def head(self) -> Head:
        """Which records are kept. What it names is durable."""
        ...

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """Store the first keyring with record 1 and its leaf hash, in one durable transaction.

        Neither is of use without the other: an enclave that finds only one of them has to cry foul.

        Raises:
            StoreExists: there is a keyring or a record already, be it the same.
            LimitExceeded: longer than ``MAX_KEYRING_BYTES`` or ``MAX_RECORD_BYTES``.
            InvalidInput, StoreUnavailable: as :meth:`append`.
        """
        ...

    def replace_keyring(self, keyring: bytes) -> None:
        """Put another keyring in the place of the stored one, durably and atomically.

        Raises:
            StoreMissing: there is none yet.
            LimitExceeded: longer than ``MAX_KEYRING_BYTES``.
            StoreUnavailable: as :meth:`append`.
        """
        ...

    def append(
        self,
        n: int,
        record: bytes,
        leaf: bytes,
        *,
        trim: int,
        outbox: Sequence[OutboxItem] = (),
        drops: Sequence[tuple[int, int]] = (),
    ) -> None:
        """One durable transaction: all of it is there on return, none of it after any exception but one.

        Record ``n`` and its ``leaf`` hash are added, records below ``trim`` (0..n) are deleted, the ``(n, index)`` of
        ``drops`` leave the outbox (items of earlier commits; missing ones are ignored) and ``outbox`` enters it.
        Leaf hashes are never deleted.

        The caller who does not know whether an append took place calls again with the same arguments: a record that
        is the head already, byte for byte, with the same leaf, is a success that changes nothing.

        Raises:
            StoreFenced: record n exists already with other content, or n-1 is not the newest.
            StoreUnavailable: the engine refused. The text says whether nothing was changed or the outcome is unknown;
                the store can be used again as soon as the cause is gone.
            InvalidInput: a number or length outside what is said here, an item of another commit, two at one index.
            LimitExceeded: longer than ``MAX_RECORD_BYTES``.
        """
        ...

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Records ``start..stop-1`` in order.

        Raises:
            CorruptedStore: (while iterating) one is missing, or was trimmed meanwhile.
            InvalidInput: not ``1 <= start <= stop``.
        """
        ...

    def node(self, level: int, index: int) -> bytes:
        """Root of the complete subtree over the ``2**level`` leaves from leaf ``index * 2**level`` on (RFC 9162).

        Leaves count from 0 here, so ``node(0, n - 1)`` is the leaf hash of record n.

        Raises:
            InvalidInput: there is no such subtree, or not yet.
            CorruptedStore: a leaf is missing.
        """
        ...

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first: at most ``limit`` items.

        It can be fewer, but not none, when the next one would take it over ``OUTBOX_READ_BYTES``.
        """
        ...

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item by its place; None if it is not there (any more)."""
        ...

    def close(self) -> None:
        """Give the store back. Closing twice is fine; any other use afterwards raises :class:`StoreError`."""
        ...
