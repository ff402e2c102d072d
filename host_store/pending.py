"""Commits that are durable in the journal and not yet in LMDB, and what they change in the eyes of a reader.

What a store shows is LMDB's tables with these commits on top. All of it is gone from here once LMDB has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from host_store.store import ADDRESS_BYTES, LEAF_BYTES, Head, OutboxItem
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import MAX_RECORD_BYTES, MAX_TREE_SIZE

Place = tuple[int, int]
"""Commit and index of an outbox item."""
NO_LEAF: Final = bytes(LEAF_BYTES)
"""Stands for the leaf hash of record 0, which does not exist."""
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


def check_place(n: int, index: int) -> None:
    """Raises :class:`InvalidInput` for what can be nobody's place."""
    if not (0 <= n <= _MAX_NUMBER and 0 <= index <= _MAX_INDEX):
        raise InvalidInput(f"item {index} of commit {n} is outside 0..2**32-1 of 0..2**64-1")


def _index(item: OutboxItem) -> int:
    return item.index


@dataclass(frozen=True, slots=True)
class Pending:
    """Commits that follow LMDB's newest record without a gap, and their sum. Never changed once it is made.

    The journal's length bounds what is in here.
    """

    base: Head
    """LMDB's window."""
    base_leaf: bytes
    """The leaf hash of LMDB's newest record; ``NO_LEAF``: it has none."""
    commits: tuple[Commit, ...]
    first: int
    """The oldest record that is kept."""
    added: Mapping[Place, OutboxItem]
    """Outbox items that LMDB does not have yet, in the order of their places."""
    dropped: frozenset[Place]
    """Places that LMDB's outbox is to lose, if it has them."""

    @classmethod
    def none(cls, base: Head, base_leaf: bytes) -> Pending:
        """LMDB has everything."""
        return cls(base, base_leaf, (), base.first, {}, frozenset())

    def with_next(self, commit: Commit) -> Pending:
        """These, and the commit whose number is one above :attr:`n`."""
        added, dropped = self.added, self.dropped
        if commit.drops or commit.outbox:
            added = dict(added)
            missing = [place for place in commit.drops if added.pop(place, None) is None]
            if missing:
                dropped = dropped.union(missing)
            added.update(((item.n, item.index), item) for item in commit.outbox)
        first = max(self.first, commit.trim)
        return Pending(self.base, self.base_leaf, (*self.commits, commit), first, added, dropped)

    @property
    def n(self) -> int:
        """The newest record."""
        return self.base.n + len(self.commits)

    @property
    def leaf(self) -> bytes:
        """The newest record's leaf hash."""
        return self.commits[-1].leaf if self.commits else self.base_leaf

    @property
    def head(self) -> Head:
        """The window as a reader sees it."""
        return Head(self.base.n + len(self.commits), self.first)

    def commit(self, n: int) -> Commit | None:
        """The commit of record ``n``; None if it is not one of these."""
        at = n - self.base.n - 1
        return self.commits[at] if 0 <= at < len(self.commits) else None
