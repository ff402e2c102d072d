"""Ours and what people would use instead, at equal durability.

Every ``put`` and ``put_all`` is one commit that has reached the disk when it returns. Peers get their native key type,
their own bulk call, a prepared read path and a cache that holds everything: they are here at their best.

The libraries are the extra ``bench``; a peer whose library is missing is left out (:func:`available`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.engines import Get, LevelDb, Lmdb, LmdbAesGcm, Pairs, RocksDb, SqlCipher, Sqlite
from benchmarks.stores import MAP_KEY
from host_store import open_map


class Contender(Protocol):
    """A durable ordered key-value store in a folder of its own."""

    def key(self, name: str) -> Any:
        """A key in the store's own type."""
        ...

    def put(self, key: Any, value: bytes) -> None:
        """One durable commit of one entry."""
        ...

    def put_all(self, pairs: Pairs) -> None:
        """One durable commit of many entries."""
        ...

    def reader(self) -> Get:
        """The fastest way to read single entries; valid until the next write."""
        ...

    def pairs(self) -> Iterable[Any]:
        """Every entry in key order, as keys and values that outlive the iteration."""
        ...

    def scan(self, start: Any, count: int) -> int:
        """Read up to ``count`` entries from ``start`` on; returns how many there were."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Ours:
    """The embedded map. ``sweep``: ``"full"`` re-encrypts the whole map with every commit, as the seed design does."""

    sweep: Any = "incremental"
    max_size = "8g"

    def __init__(self, folder: Path) -> None:
        self.map = open_map(folder, MAP_KEY, max_size=self.max_size, sweep=self.sweep)

    def key(self, name: str) -> str:
        return name

    def put(self, key: Any, value: bytes) -> None:
        self.map[key] = value

    def put_all(self, pairs: Pairs) -> None:
        self.map.update(pairs)

    def reader(self) -> Get:
        return self.map.get

    def pairs(self) -> Iterable[Any]:
        return self.map.items()

    def scan(self, start: Any, count: int) -> int:
        return sum(1 for _ in self.map.range(start, limit=count))

    def close(self) -> None:
        self.map.close()


class OursFull(Ours):
    """Whole-map sealing."""

    sweep = "full"
    max_size = "256m"


OURS: Final = "pmap"
FULL: Final = 'pmap, sweep="full"'
LMDB: Final = "LMDB"
AES_GCM: Final = "LMDB + AES-GCM"
SQLCIPHER: Final = "SQLCipher"
SQLITE: Final = "SQLite"
ROCKSDB: Final = "RocksDB"
LEVELDB: Final = "LevelDB"

CONTENDERS: Final[dict[str, tuple[str, Callable[[Path], Contender]]]] = {
    OURS: ("lmdb", Ours),
    FULL: ("lmdb", OursFull),
    LMDB: ("lmdb", Lmdb),
    AES_GCM: ("lmdb", LmdbAesGcm),
    SQLCIPHER: ("sqlcipher3", SqlCipher),
    SQLITE: ("sqlite3", Sqlite),
    ROCKSDB: ("rocksdict", RocksDb),
    LEVELDB: ("plyvel", LevelDb),
}
"""Name -> (library, how to make one in a folder that does not exist yet)."""


def available(wanted: Iterable[str] = CONTENDERS) -> list[str]:
    """Those of ``wanted`` whose library is installed."""
    return [name for name in wanted if importlib.util.find_spec(CONTENDERS[name][0]) is not None]


def make(name: str, folder: Path) -> Contender:
    """A new, empty store of this kind."""
    return CONTENDERS[name][1](folder)
