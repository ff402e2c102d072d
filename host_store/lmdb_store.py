"""The default store: one folder on the host's disk, kept by LMDB.

An append is one write transaction: one ``fdatasync`` and one synchronous write of LMDB's meta page. Nothing of the
tables (:mod:`host_store.lmdb_tables`) is remembered between calls, so there is nothing to put right after a failed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from host_store.lmdb_environment import INITIAL_MAP_BYTES, LmdbEnvironment, create_environment
from host_store.lmdb_tables import (
    KEYRING_KEY,
    LAYOUT,
    META,
    OUTBOX,
    PLACES,
    RECORDS,
    TABLES,
    OutboxChange,
    check_window,
    claim_number,
    delete_records_below,
    holds_record,
    place_key,
    put_record,
    read_head,
    read_node,
    read_outbox,
    record_key,
    store_completed_nodes,
)
from host_store.store import ADDRESS_BYTES, LEAF_BYTES, Head, OutboxItem, StoreStats
from host_store.store_folder import StoreFolder
from wire.errors import CorruptedStore, InvalidInput, LimitExceeded, StoreExists, StoreMissing, StoreUnavailable
from wire.limits import MAX_KEYRING_BYTES, MAX_RECORD_BYTES, MAX_TREE_SIZE, RECORDS_PER_READ_BYTES

if TYPE_CHECKING:
    from host_store.lmdb_environment import Table, Transaction


class LmdbStore:
    """A :class:`host_store.store.Store` in a folder, for one process at a time. :meth:`open` makes one."""

    def __init__(self, folder: StoreFolder, environment: LmdbEnvironment) -> None:
        self._folder = folder
        self._environment = environment

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True, initial_map_bytes: int = INITIAL_MAP_BYTES) -> LmdbStore:
        """Open the store in folder ``path``; make an empty one first if there is none and ``create`` is set.

        Raises:
            StoreMissing: there is none, and ``create`` is not set.
            StoreLocked: another process, or this one, has it open.
            CorruptedStore: the data file is cut off, overwritten, or contradicts itself.
            UnsupportedVersion: written in another format.
            StoreUnavailable: permissions, a read-only or full disk, an I/O error.
            InvalidInput: the path is a file, or a folder of other things.
        """
        folder = StoreFolder.claim(Path(path), create=create)
        try:
            if create and not folder.data_file.exists():
                folder.make_data_file(lambda aside: create_environment(aside, TABLES, LAYOUT))
            environment = LmdbEnvironment(folder.path, TABLES, LAYOUT, check_window, map_bytes=initial_map_bytes)
        except BaseException:
            folder.release()
            raise
        return cls(folder, environment)

    def close(self) -> None:
        """Close the environment and let go of the folder; again is fine."""
        self._environment.close()
        self._folder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- keyring (contracts: host_store.store.Store) ---

    def keyring(self) -> bytes | None:
        """The sealed keyring; None before :meth:`create`."""
        with self._environment.view() as (transaction, tables):
            keyring = transaction.get(KEYRING_KEY, db=tables[META])
            return None if keyring is None else bytes(keyring)

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """Store the first keyring with record 1."""
        _check_keyring(keyring)
        _check_record(record, leaf)

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if transaction.get(KEYRING_KEY, db=tables[META]) is not None or read_head(transaction, tables).n:
                raise StoreExists(f"a store was created in {self._folder.path} before")
            transaction.put(KEYRING_KEY, keyring, db=tables[META])
            claim_number(transaction, tables, 1, record, leaf)
            put_record(transaction, tables, 1, record)

        def landed(transaction: Transaction, tables: Sequence[Table]) -> bool:
            return _holds_keyring(transaction, tables, keyring) and holds_record(transaction, tables, 1, record, leaf)

        self._environment.update(change, landed)

    def replace_keyring(self, keyring: bytes) -> None:
        """Put another keyring in the place of the stored one."""
        _check_keyring(keyring)

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if transaction.get(KEYRING_KEY, db=tables[META]) is None:
                raise StoreMissing(f"{self._folder.path} has no keyring to replace: create a store first")
            transaction.put(KEYRING_KEY, keyring, db=tables[META])

        self._environment.update(change, lambda transaction, tables: _holds_keyring(transaction, tables, keyring))

    # --- records and history ---

    def head(self) -> Head:
        """Which records are kept."""
        with self._environment.view() as (transaction, tables):
            return read_head(transaction, tables)

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
        """One durable transaction: record, leaf hash, trim, outbox; fenced by n."""
        if not 1 <= n <= MAX_TREE_SIZE or not 0 <= trim <= n:
            raise InvalidInput(f"record {n} with a trim to {trim}: records count from 1, and a trim spares the new one")
        _check_record(record, leaf)
        outbox_change = OutboxChange(n, outbox, drops) if outbox or drops else None

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if not claim_number(transaction, tables, n, record, leaf):
                return
            # Deletions before writes: a transaction must not delete what it wrote (LmdbEnvironment.update).
            delete_records_below(transaction, tables, trim)
            if outbox_change is not None:
                outbox_change.apply(transaction, tables)
            put_record(transaction, tables, n, record)
            store_completed_nodes(transaction, tables, n)

        def landed(transaction: Transaction, tables: Sequence[Table]) -> bool:
            return holds_record(transaction, tables, n, record, leaf)

        self._environment.update(change, landed)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Records ``start..stop-1`` in order."""
        if not 1 <= start <= stop <= MAX_TREE_SIZE + 1:
            raise InvalidInput(f"{start} to {stop} (exclusive) is no range of records")
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        n = start
        while n < stop:
            # In portions: no transaction stays open while the caller works, and each is opened for many records.
            records: list[bytes] = []
            size = 0
            with self._environment.view() as (transaction, tables):
                while n < stop and size < RECORDS_PER_READ_BYTES:
                    record = transaction.get(record_key(n), db=tables[RECORDS])
                    if record is None:
                        raise CorruptedStore(f"record {n} is not in the store {self._folder.path}")
                    records.append(bytes(record))
                    size += len(record)
                    n += 1
            yield from records

    def node(self, level: int, index: int) -> bytes:
        """Root of a complete subtree: at most 128 reads and 127 hashes."""
        with self._environment.view() as (transaction, tables):
            leaves = read_head(transaction, tables).n
            if not 0 <= level <= leaves.bit_length() or not 0 <= index < leaves >> level:
                raise InvalidInput(f"a tree of {leaves} leaves has no complete subtree {index} at level {level}")
            return read_node(transaction, tables, level, index)

    # --- outbox ---

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first."""
        if len(address) != ADDRESS_BYTES:
            raise InvalidInput(f"an address of {len(address)} bytes; it has {ADDRESS_BYTES}")
        with self._environment.view() as (transaction, tables):
            return read_outbox(transaction, tables, address, limit)

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item by its place; None if it is not there (any more)."""
        place = place_key(n, index)
        with self._environment.view() as (transaction, tables):
            view = transaction.get(place, db=tables[PLACES])
            if view is None:
                return None
            address = bytes(view)
            message = transaction.get(address + place, db=tables[OUTBOX])
            if message is None:
                raise CorruptedStore(f"the outbox of {self._folder.path} lacks item {index} of commit {n}")
            return OutboxItem(n, index, address, bytes(message))

    # --- for people ---

    def stats(self) -> StoreStats:
        """How large the store is. Raises :class:`wire.errors.StoreError`."""
        with self._environment.view() as (transaction, tables):
            head = read_head(transaction, tables)
            waiting = transaction.stat(tables[PLACES])["entries"]
        try:
            file_bytes = self._folder.data_file.stat().st_size
        except OSError as error:
            raise StoreUnavailable(f"cannot look at {self._folder.data_file}: {error.strerror}") from error
        return StoreStats(file_bytes, self._environment.page_bytes_used(), head.n - head.first + 1, waiting)


def _check_keyring(keyring: bytes) -> None:
    if len(keyring) > MAX_KEYRING_BYTES:
        raise LimitExceeded(f"a keyring of {len(keyring)} bytes; the most is {MAX_KEYRING_BYTES}")


def _check_record(record: bytes, leaf: bytes) -> None:
    if len(leaf) != LEAF_BYTES:
        raise InvalidInput(f"a leaf hash of {len(leaf)} bytes; it has {LEAF_BYTES}")
    if len(record) > MAX_RECORD_BYTES:
        raise LimitExceeded(f"a record of {len(record)} bytes; the most is {MAX_RECORD_BYTES}")


def _holds_keyring(transaction: Transaction, tables: Sequence[Table], keyring: bytes) -> bool:
    stored = transaction.get(KEYRING_KEY, db=tables[META])
    return stored is not None and bytes(stored) == keyring
