"""The history's hashes: kept in tiles of 256, so that old ones cost 32 bytes a commit and one read.

Source: C2SP tlog-tiles, for the idea. Tile t of level L (0, 8, 16, ...) holds the roots of the complete subtrees of
2**L leaves with the numbers 256 t .. 256 t + 255; its own root stands in a tile of level L + 8. What does not fill a
tile yet is in memory, and in the log's index.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from host_store.arguments import check_subtree
from host_store.store import LEAF_BYTES
from wire.errors import CorruptedStore, Malformed
from wire.merkle import node_hash

TILE_LEVELS: Final = 8
TILE_HASHES: Final = 1 << TILE_LEVELS
TILE_BYTES: Final = TILE_HASHES * LEAF_BYTES
CACHED_TILES: Final = 256  # 2 MiB


class TileName(NamedTuple):
    """Which tile."""

    level: int
    number: int


class Tiles:
    """All hashes of a growing tree. Not for several threads at once."""

    def __init__(self, leaves: int = 0, growing: list[bytes] | None = None) -> None:
        self.leaves = leaves
        self.growing: list[bytes] = growing or []
        """By level / 8: the hashes that do not fill a tile yet, concatenated."""
        self.due: dict[TileName, bytes] = {}
        """Full tiles that are not stored yet."""
        self._cache: OrderedDict[TileName, bytes] = OrderedDict()

    @classmethod
    def decode(cls, leaves: int, growing: object) -> Tiles:
        """What an index says of them. Raises :class:`Malformed`."""
        if type(growing) is not list or any(type(hashes) is not bytes for hashes in growing):
            raise Malformed("its hashes are none")
        for step in range(len(growing) + 1):
            nodes = leaves >> step * TILE_LEVELS
            if (nodes > 0) != (step < len(growing)):
                raise Malformed("its hashes have more or fewer levels than its tree")
            if nodes and len(growing[step]) != nodes % TILE_HASHES * LEAF_BYTES:
                raise Malformed("its hashes are of another tree")
        return cls(leaves, growing)

    def append(self, leaf: bytes) -> None:
        """Add the next leaf hash."""
        self.leaves += 1
        node, step = leaf, 0
        while True:
            if step == len(self.growing):
                self.growing.append(b"")
            self.growing[step] += node
            if len(self.growing[step]) < TILE_BYTES:
                return
            full, self.growing[step] = self.growing[step], b""
            level = step * TILE_LEVELS
            self.due[TileName(level, (self.leaves >> (level + TILE_LEVELS)) - 1)] = full
            node, step = _root(full), step + 1

    def wanted(self, level: int, index: int) -> TileName | None:
        """The tile that :meth:`node` needs and has not: read it and :meth:`offer` it. Raises :class:`InvalidInput`."""
        check_subtree(self.leaves, level, index)
        name = TileName(level - level % TILE_LEVELS, (index << level % TILE_LEVELS) >> TILE_LEVELS)
        return None if self._held(name) is not None else name

    def offer(self, name: TileName, tile: bytes | None) -> None:
        """A stored tile. Raises :class:`CorruptedStore` for one that is not there, or no tile."""
        if tile is None or len(tile) != TILE_BYTES:
            raise CorruptedStore(f"the history lacks tile {name.number} of level {name.level}")
        self._cache[name] = tile
        if len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)

    def node(self, level: int, index: int) -> bytes:
        """Root of a complete subtree, of which nothing is :meth:`wanted`."""
        above = level % TILE_LEVELS
        start, count = index << above, 1 << above
        name = TileName(level - above, start >> TILE_LEVELS)
        tile = self._held(name) or b""
        first = start % TILE_HASHES
        return _root(tile[first * LEAF_BYTES : (first + count) * LEAF_BYTES])

    def stored(self, name: TileName) -> None:
        """A tile that was due is stored now."""
        self.offer(name, self.due.pop(name))

    def _held(self, name: TileName) -> bytes | None:
        if name.number == self.leaves >> (name.level + TILE_LEVELS):
            return self.growing[name.level // TILE_LEVELS]
        if name in self.due:
            return self.due[name]
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        return None


def _root(hashes: bytes) -> bytes:
    """Root over adjacent hashes, as many as a power of two."""
    nodes = [hashes[at : at + LEAF_BYTES] for at in range(0, len(hashes), LEAF_BYTES)]
    while len(nodes) > 1:
        nodes = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]
    return nodes[0]
