"""Leaf hashes and stored nodes of the history's Merkle tree in LMDB.

A row holds as many leaf hashes as fill one of LMDB's overflow pages, so a leaf costs its 32 bytes and little more.
Every eighth level of the tree is stored as well: any other node then costs at most 128 hashes to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from host_store.store import LEAF_BYTES
from wire.errors import CorruptedStore
from wire.limits import LMDB_PAGE_BYTES, LMDB_PAGE_HEADER_BYTES
from wire.merkle import node_hash

if TYPE_CHECKING:
    from host_store.lmdb.environment import Table, Transaction

LEAVES_PER_ROW: Final = (LMDB_PAGE_BYTES - LMDB_PAGE_HEADER_BYTES) // LEAF_BYTES
"""127."""
_NODE_LEVELS: Final = 8  # every eighth level of the tree is stored: another node costs at most 127 hashes
_SUBTREE_LEAVES: Final = 1 << _NODE_LEVELS

row_key = Struct(">Q").pack
_node_key = Struct(">BQ").pack


def append_leaves(transaction: Transaction, leaves: Table, stored: int, new: Sequence[bytes]) -> None:
    """Write the leaf hashes behind the ``stored`` ones. Raises :class:`CorruptedStore`: the last row is no row."""
    row, kept = divmod(stored, LEAVES_PER_ROW)
    content = b"".join(new)
    if kept:
        content = _read_row(transaction, leaves, row)[: kept * LEAF_BYTES] + content
    row_bytes = LEAVES_PER_ROW * LEAF_BYTES
    for at in range(0, len(content), row_bytes):
        transaction.put(row_key(row), content[at : at + row_bytes], db=leaves)
        row += 1


def read_leaves(transaction: Transaction, leaves: Table, start: int, stop: int) -> list[bytes]:
    """The leaf hashes ``start..stop-1``, counted from 0. Raises :class:`CorruptedStore`: one is missing."""
    found: list[bytes] = []
    while start < stop:
        row, at = divmod(start, LEAVES_PER_ROW)
        count = min(stop - start, LEAVES_PER_ROW - at)
        content = _read_row(transaction, leaves, row)[at * LEAF_BYTES : (at + count) * LEAF_BYTES]
        if len(content) != count * LEAF_BYTES:
            raise CorruptedStore(f"the history lacks leaf hashes between {start} and {start + count}")
        found += [content[offset : offset + LEAF_BYTES] for offset in range(0, len(content), LEAF_BYTES)]
        start += count
    return found


def _read_row(transaction: Transaction, leaves: Table, row: int) -> bytes:
    return bytes(transaction.get(row_key(row), db=leaves) or b"")


class History:
    """The tree over ``stored`` leaves in LMDB, and over ``recent`` ones that follow them. For one transaction."""

    def __init__(
        self, transaction: Transaction, leaves: Table, nodes: Table, stored: int, recent: Sequence[bytes] = ()
    ) -> None:
        self._transaction = transaction
        self._leaves = leaves
        self._nodes = nodes
        self._stored = stored
        self._recent = recent

    def node(self, level: int, index: int) -> bytes:
        """Root of a complete subtree. Raises :class:`CorruptedStore`."""
        stored_level = level - level % _NODE_LEVELS
        count = 1 << (level - stored_level)
        return _fold(self._nodes_of(stored_level, index * count, (index + 1) * count))

    def store_completed_nodes(self, before: int) -> None:
        """Store the nodes that the leaves from number ``before`` on complete; all leaves are in LMDB."""
        level = _NODE_LEVELS
        while self._stored >> level:
            for index in range(before >> level, self._stored >> level):
                self._transaction.put(_node_key(level, index), self._computed(level, index), db=self._nodes)
            level += _NODE_LEVELS

    def _computed(self, level: int, index: int) -> bytes:
        start = index * _SUBTREE_LEAVES
        return _fold(self._nodes_of(level - _NODE_LEVELS, start, start + _SUBTREE_LEAVES))

    def _nodes_of(self, level: int, start: int, stop: int) -> list[bytes]:
        """Adjacent nodes of a level that is stored (0, 8, 16, ...)."""
        stored = min(stop, self._stored >> level)
        if level == 0:
            nodes = read_leaves(self._transaction, self._leaves, start, stored)
            return nodes + list(self._recent[max(start, stored) - self._stored : stop - self._stored])
        nodes = []
        if start < stored:
            with self._transaction.cursor(self._nodes) as cursor:
                keys = [_node_key(level, index) for index in range(start, stored)]
                nodes = [bytes(node) for _key, node in cursor.getmulti(keys)]
            if len(nodes) != stored - start:
                raise CorruptedStore(f"the history lacks nodes of level {level} between {start} and {stored}")
        return nodes + [self._computed(level, index) for index in range(max(start, stored), stop)]


def _fold(nodes: list[bytes]) -> bytes:
    """Root over adjacent nodes, as many as a power of two."""
    while len(nodes) > 1:
        nodes = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]
    return nodes[0]
