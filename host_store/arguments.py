"""The arguments of a store's calls, checked as :class:`host_store.store.Store` says, for every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from host_store.store import ADDRESS_BYTES, LEAF_BYTES, OutboxItem
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import MAX_KEYRING_BYTES, MAX_RECORD_BYTES, MAX_TREE_SIZE

Place = tuple[int, int]
"""Commit and index of an outbox item."""
_MAX_INDEX: Final = (1 << 32) - 1
_MAX_NUMBER: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Commit:
    """The arguments of one append (see :meth:`host_store.store.Store.append`)."""

    n: int
    record: bytes
    leaf: bytes
    trim: int
    outbox: Sequence[OutboxItem]
    """In the order of their indexes."""
    drops: Sequence[Place]

    @classmethod
    def checked(
        cls, n: int, record: bytes, leaf: bytes, trim: int, outbox: Sequence[OutboxItem], drops: Sequence[Place]
    ) -> Commit:
        """Make one of what a caller gave.

        Raises:
            InvalidInput: a number or length out of range, an item of another commit, two at one index.
            LimitExceeded: longer than ``MAX_RECORD_BYTES``.
        """
        if not 1 <= n <= MAX_TREE_SIZE or not 0 <= trim <= n:
            raise InvalidInput(f"record {n} with a trim to {trim}: records count from 1, and a trim spares the new one")
        if len(leaf) != LEAF_BYTES:
            raise InvalidInput(f"a leaf hash of {len(leaf)} bytes; it has {LEAF_BYTES}")
        if len(record) > MAX_RECORD_BYTES:
            raise LimitExceeded(f"a record of {len(record)} bytes; the most is {MAX_RECORD_BYTES}")
        if outbox:
            outbox = sorted(outbox, key=_index)
            before = -1
            for item in outbox:
                if item.n != n or len(item.address) != ADDRESS_BYTES:
                    raise InvalidInput(
                        f"append {n} with an item of commit {item.n} for {len(item.address)} bytes of address"
                    )
                if item.index == before:
                    raise InvalidInput("two items of one commit have the same index")
                before = item.index
            check_place(n, outbox[0].index)
            check_place(n, before)
        for m, index in drops:
            check_place(m, index)
        return cls(n, record, leaf, trim, outbox, drops)


def check_keyring(keyring: bytes) -> None:
    """Raises :class:`LimitExceeded` for one that is too long."""
    if len(keyring) > MAX_KEYRING_BYTES:
        raise LimitExceeded(f"a keyring of {len(keyring)} bytes; the most is {MAX_KEYRING_BYTES}")


def check_range(start: int, stop: int) -> None:
    """Raises :class:`InvalidInput` unless ``start..stop-1`` are records that there can be."""
    if not 1 <= start <= stop <= MAX_TREE_SIZE + 1:
        raise InvalidInput(f"{start} to {stop} (exclusive) is no range of records")


def check_subtree(leaves: int, level: int, index: int) -> None:
    """Raises :class:`InvalidInput` unless a tree of so many leaves has this complete subtree."""
    if not 0 <= level <= leaves.bit_length() or not 0 <= index < leaves >> level:
        raise InvalidInput(f"a tree of {leaves} leaves has no complete subtree {index} at level {level}")


def check_address(address: bytes) -> None:
    """Raises :class:`InvalidInput` for another length than a session's address has."""
    if len(address) != ADDRESS_BYTES:
        raise InvalidInput(f"an address of {len(address)} bytes; it has {ADDRESS_BYTES}")


def check_place(n: int, index: int) -> None:
    """Raises :class:`InvalidInput` for what can be no outbox item's place."""
    if not (0 <= n <= _MAX_NUMBER and 0 <= index <= _MAX_INDEX):
        raise InvalidInput(f"item {index} of commit {n} is outside 0..2**32-1 of 0..2**64-1")


def _index(item: OutboxItem) -> int:
    return item.index
