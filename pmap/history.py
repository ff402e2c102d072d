"""The history: a Merkle tree (RFC 9162 hashing) over every record since the first, as its frontier.

Remembers the roots of recent commits, so that evidence from a moment ago can be told from another history's.
"""

from __future__ import annotations

from wire.errors import ProofInvalid
from wire.limits import RECENT_ROOTS
from wire.merkle import EMPTY_ROOT, Frontier, verify_consistency
from wire.record import NO_RECORD


class History:
    """``n`` records, the leaf hash of the last one, and the root over all of them."""

    __slots__ = ("_base", "_leaves", "_roots", "frontier", "previous", "root")

    def __init__(self, base: Frontier | None = None, leaves: list[bytes] | None = None) -> None:
        """``base`` is the frontier before the replayed window, ``leaves`` the window's leaf hashes."""
        self._base = Frontier() if base is None else base
        self._leaves = leaves or []
        self.frontier = self._base.copy()
        for leaf in self._leaves:
            self.frontier.append(leaf)
        self.previous = self._leaves[-1] if self._leaves else NO_RECORD
        self.root = self.frontier.root()
        self._roots = {0: EMPTY_ROOT, self.frontier.size: self.root}

    @property
    def n(self) -> int:
        """The number of the newest record."""
        return self.frontier.size

    def append(self, leaf: bytes) -> bytes:
        """Add the next record's leaf hash; returns the new root."""
        frontier = self.frontier
        frontier.append(leaf)
        self.previous = leaf
        self.root = root = frontier.root()
        n = frontier.size
        roots = self._roots
        roots[n] = root
        roots.pop(n - RECENT_ROOTS, None)
        return root

    def recent_root(self, size: int) -> bytes | None:
        """The root over the first ``size`` records, if it is remembered."""
        return self._roots.get(size)

    def root_at(self, size: int) -> bytes | None:
        """The root over the first ``size`` records, or None where neither memory nor the window reaches."""
        root = self._roots.get(size)
        if root is None and self._base.size <= size <= self._base.size + len(self._leaves):
            # Kept: the window is hashed once for each size at the most.
            root = self._roots[size] = self.roots_at({size})[size]
        return root

    def roots_at(self, sizes: set[int]) -> dict[int, bytes]:
        """The roots of several sizes inside the replayed window, in one pass over it."""
        found = {}
        frontier = self._base.copy()
        if frontier.size in sizes:
            found[frontier.size] = frontier.root()
        for leaf in self._leaves:
            frontier.append(leaf)
            if frontier.size in sizes:
                found[frontier.size] = frontier.root()
        return found

    def learn(self, size: int, untrusted_root: bytes, to_size: int, untrusted_proof: list[bytes]) -> None:
        """Accept what the host says this history's root was at ``size``, if a proof to ``to_size`` shows it.

        Raises :class:`wire.errors.ProofInvalid`, also where the root at ``to_size`` is not known.
        """
        to_root = self.root_at(to_size)
        if to_root is None:
            raise ProofInvalid(f"a proof to commit {to_size}, whose root is not known here")
        verify_consistency(size, untrusted_root, to_size, to_root, untrusted_proof)
        self._roots[size] = untrusted_root
