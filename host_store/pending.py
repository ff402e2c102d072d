"""Commits that are durable in the journal and not yet in LMDB, and what they change in the eyes of a reader.

What a store shows is LMDB's tables with these commits on top. All of it is gone from here once LMDB has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from host_store.arguments import Commit, Place
from host_store.store import LEAF_BYTES, Head, OutboxItem

NO_LEAF: Final = bytes(LEAF_BYTES)
"""Stands for the leaf hash of record 0, which does not exist."""


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
