"""The stores of others, each as its documentation opens it: durable commits, and a cache that holds everything.

Each has the methods of :class:`benchmarks.peers.Contender`, and brings its library in when the first one is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Pairs = Sequence[tuple[Any, bytes]]
Get = Callable[[Any], bytes | None]

_CACHE_MIB: Final = 512
_LMDB_MAP_BYTES: Final = 16 << 30


class Lmdb:
    """LMDB with its default, durable commits. Nothing is encrypted."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        folder.mkdir()
        self._environment = lmdb.open(str(folder), map_size=_LMDB_MAP_BYTES)
        self._reading: Any = None

    def key(self, name: str) -> bytes:
        return name.encode()

    def put(self, key: Any, value: bytes) -> None:
        self._stop_reading()
        with self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def put_all(self, pairs: Pairs) -> None:
        self._stop_reading()
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(pairs)

    def reader(self) -> Get:
        get: Get = self._transaction().get
        return get

    def current_reader(self) -> Get:
        """Reads that always see the newest commit, as ours do: a transaction for each."""
        begin = self._environment.begin

        def read(key: Any) -> bytes | None:
            with begin() as transaction:
                return transaction.get(key)

        return read

    def pairs(self) -> Iterable[Any]:
        return self._transaction().cursor()  # type: ignore[no-any-return]

    def scan(self, start: Any, count: int) -> int:
        with self._transaction().cursor() as cursor:
            cursor.set_range(start)
            return sum(1 for _ in zip(range(count), cursor.iternext(), strict=False))

    def close(self) -> None:
        self._stop_reading()
        self._environment.close()

    def _transaction(self) -> Any:
        """One for all reads until the next write: LMDB's best case."""
        if self._reading is None:
            self._reading = self._environment.begin()
        return self._reading

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.abort()
            self._reading = None


class LmdbAesGcm(Lmdb):
    """LMDB with each value encrypted by AES-256-GCM, random nonces, its key as AAD. Keys are in the clear, and nothing
    tells an old value, or an old file, from a new one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._cipher = AESGCM(os.urandom(32))

    def put(self, key: Any, value: bytes) -> None:
        super().put(key, self._seal(key, value))

    def put_all(self, pairs: Pairs) -> None:
        super().put_all([(key, self._seal(key, value)) for key, value in pairs])

    def reader(self) -> Get:
        get, decrypt = super().reader(), self._cipher.decrypt

        def read(key: Any) -> bytes | None:
            sealed = get(key)
            return None if sealed is None else decrypt(sealed[:12], sealed[12:], key)

        return read

    def pairs(self) -> Iterable[Any]:
        decrypt = self._cipher.decrypt
        return ((key, decrypt(sealed[:12], sealed[12:], key)) for key, sealed in super().pairs())

    def scan(self, start: Any, count: int) -> int:
        decrypt = self._cipher.decrypt
        with self._transaction().cursor() as cursor:
            cursor.set_range(start)
            found = zip(range(count), cursor.iternext(), strict=False)
            return len([decrypt(sealed[:12], sealed[12:], key) for _, (key, sealed) in found])

    def _seal(self, key: bytes, value: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, value, key)


class Sqlite:
    """SQLite in WAL mode with ``synchronous=FULL``: each commit is synced."""

    _PUT = "INSERT OR REPLACE INTO entries VALUES (?, ?)"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._database = self._connect(folder / "data")
        execute = self._database.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA cache_size = -{_CACHE_MIB * 1024}")
        # 64 MiB of log instead of 4: measured to make large commits faster, and one-put commits no slower.
        execute("PRAGMA wal_autocheckpoint = 16384")
        execute("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")

    def _connect(self, file: Path) -> Any:
        import sqlite3

        return sqlite3.connect(file, isolation_level=None)

    def key(self, name: str) -> bytes:
        return name.encode()

    def put(self, key: Any, value: bytes) -> None:
        self._database.execute(self._PUT, (key, value))

    def put_all(self, pairs: Pairs) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(self._PUT, pairs)
        self._database.execute("COMMIT")

    def reader(self) -> Get:
        execute = self._database.cursor().execute

        def read(key: Any) -> bytes | None:
            row = execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            return None if row is None else row[0]

        return read

    def pairs(self) -> Iterable[Any]:
        return self._database.execute("SELECT key, value FROM entries ORDER BY key")  # type: ignore[no-any-return]

    def scan(self, start: Any, count: int) -> int:
        found = "SELECT key, value FROM entries WHERE key >= ? ORDER BY key LIMIT ?"
        return len(self._database.execute(found, (start, count)).fetchall())

    def close(self) -> None:
        self._database.close()


class SqlCipher(Sqlite):
    """SQLCipher 4 with its defaults (AES-256-CBC and HMAC-SHA512 per page), a raw key, else as :class:`Sqlite`."""

    def _connect(self, file: Path) -> Any:
        from sqlcipher3 import dbapi2

        database = dbapi2.connect(str(file), isolation_level=None)
        database.execute(f"PRAGMA key = \"x'{os.urandom(32).hex()}'\"")
        return database


class RocksDb:
    """RocksDB, each write synced. Nothing is encrypted."""

    def __init__(self, folder: Path) -> None:
        from rocksdict import Options, Rdict, WriteOptions

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._database = Rdict(str(folder), options)
        self._synced = WriteOptions()
        self._synced.sync = True

    def key(self, name: str) -> bytes:
        return name.encode()

    def put(self, key: Any, value: bytes) -> None:
        self._database.put(key, value, write_opt=self._synced)

    def put_all(self, pairs: Pairs) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for key, value in pairs:
            batch.put(key, value)
        self._database.write(batch, write_opt=self._synced)

    def reader(self) -> Get:
        return self._database.get

    def pairs(self) -> Iterable[Any]:
        return self._database.items()

    def scan(self, start: Any, count: int) -> int:
        return sum(1 for _ in zip(range(count), self._database.items(from_key=start), strict=False))

    def close(self) -> None:
        self._database.close()


class LevelDb:
    """LevelDB, each write synced. Nothing is encrypted."""

    def __init__(self, folder: Path) -> None:
        import plyvel

        self._database = plyvel.DB(
            str(folder), create_if_missing=True, lru_cache_size=_CACHE_MIB << 20, write_buffer_size=64 << 20
        )

    def key(self, name: str) -> bytes:
        return name.encode()

    def put(self, key: Any, value: bytes) -> None:
        self._database.put(key, value, sync=True)

    def put_all(self, pairs: Pairs) -> None:
        with self._database.write_batch(sync=True) as batch:
            for key, value in pairs:
                batch.put(key, value)

    def reader(self) -> Get:
        get: Get = self._database.get
        return get

    def pairs(self) -> Iterable[Any]:
        return self._database.iterator()  # type: ignore[no-any-return]

    def scan(self, start: Any, count: int) -> int:
        with self._database.iterator(start=start) as found:
            return sum(1 for _ in zip(range(count), found, strict=False))

    def close(self) -> None:
        self._database.close()
