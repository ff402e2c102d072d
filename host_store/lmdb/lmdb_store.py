"""The default store: one folder on the host's disk, kept by LMDB behind a journal.

An append is durable with one write to the journal; groups of them move on to LMDB (:mod:`host_store.lmdb.commits`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from host_store.arguments import Commit, check_address, check_keyring, check_place, check_range, check_subtree
from host_store.lmdb.commits import LmdbCommits, holds_group, write_group
from host_store.lmdb.environment import INITIAL_MAP_BYTES, LmdbEnvironment, create_environment
from host_store.lmdb.history import History
from host_store.lmdb.journal import JOURNAL_BYTES, JOURNAL_FILE
from host_store.lmdb.store_folder import StoreFolder
from host_store.lmdb.tables import (
    KEYRING_KEY,
    LAYOUT,
    LEAVES,
    META,
    NODES,
    RECORDS,
    TABLES,
    check_window,
    count_outbox,
    read_head,
    read_outbox,
    read_outbox_item,
    record_key,
)
from host_store.pending import NO_LEAF, Pending
from host_store.store import Head, OutboxItem, StoreStats
from wire.errors import CorruptedStore, StoreExists, StoreMissing, StoreUnavailable
from wire.limits import RECORDS_PER_READ_BYTES

if TYPE_CHECKING:
    from host_store.lmdb.environment import Table, Transaction


class LmdbStore:
    """A :class:`host_store.store.Store` in a folder, for one process at a time. :meth:`open` makes one."""

    def __init__(self, folder: StoreFolder, environment: LmdbEnvironment, journal_bytes: int) -> None:
        self._folder = folder
        self._environment = environment
        self._commits = LmdbCommits(folder, environment, journal_bytes)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool = True,
        initial_map_bytes: int = INITIAL_MAP_BYTES,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> LmdbStore:
        """Open the store in folder ``path``; make an empty one first if there is none and ``create`` is set.

        Raises:
            StoreMissing: there is none, and ``create`` is not set.
            StoreLocked: another process, or this one, has it open.
            CorruptedStore: the data file or the journal is cut off, overwritten, missing, or contradicts the other.
            UnsupportedVersion: written in another format.
            StoreUnavailable: permissions, a read-only or full disk, an I/O error.
            InvalidInput: the path is a file, or a folder of other things.
        """
        folder = StoreFolder.claim(Path(path), create=create)
        try:
            if create and not folder.data_file.exists():
                folder.make_data_file(lambda aside: create_environment(aside, TABLES, LAYOUT))
            environment = LmdbEnvironment(folder.path, TABLES, LAYOUT, check_window, map_bytes=initial_map_bytes)
            try:
                return cls(folder, environment, journal_bytes)
            except BaseException:
                environment.close()
                raise
        except BaseException:
            folder.release()
            raise

    def close(self) -> None:
        """Move everything to LMDB, close it, and let go of the folder; again is fine."""
        if self._environment.usable:
            self._commits.close()
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
        check_keyring(keyring)
        first = Pending.none(Head(0, 1), NO_LEAF).with_next(Commit.checked(1, record, leaf, 0, (), ()))

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if transaction.get(KEYRING_KEY, db=tables[META]) is not None or read_head(transaction, tables).n:
                raise StoreExists(f"a store was created in {self._folder.path} before")
            transaction.put(KEYRING_KEY, keyring, db=tables[META])
            write_group(transaction, tables, first)

        def landed(transaction: Transaction, tables: Sequence[Table]) -> bool:
            return _holds_keyring(transaction, tables, keyring) and holds_group(transaction, tables, first)

        with self._commits.changing():
            self._environment.update(change, landed)

    def replace_keyring(self, keyring: bytes) -> None:
        """Put another keyring in the place of the stored one."""
        check_keyring(keyring)

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if transaction.get(KEYRING_KEY, db=tables[META]) is None:
                raise StoreMissing(f"{self._folder.path} has no keyring to replace: create a store first")
            transaction.put(KEYRING_KEY, keyring, db=tables[META])

        with self._commits.changing():
            self._environment.update(change, lambda transaction, tables: _holds_keyring(transaction, tables, keyring))

    # --- records and history ---

    def head(self) -> Head:
        """Which records are kept."""
        with self._commits.view() as (_transaction, _tables, pending):
            return pending.head

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
        self._commits.append(Commit.checked(n, record, leaf, trim, outbox, drops))

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Records ``start..stop-1`` in order."""
        check_range(start, stop)
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        n = start
        while n < stop:
            # In portions: no transaction stays open while the caller works, and each is opened for many records.
            records: list[bytes] = []
            size = 0
            with self._commits.view() as (transaction, tables, pending):
                while n < stop and size < RECORDS_PER_READ_BYTES:
                    commit = pending.commit(n)
                    record = transaction.get(record_key(n), db=tables[RECORDS]) if commit is None else commit.record
                    if record is None or n < pending.first:
                        raise CorruptedStore(f"record {n} is not in the store {self._folder.path}")
                    records.append(bytes(record))
                    size += len(record)
                    n += 1
            yield from records

    def node(self, level: int, index: int) -> bytes:
        """Root of a complete subtree: at most 128 nodes to read and 127 hashes; twice that for the very newest."""
        with self._commits.view() as (transaction, tables, pending):
            check_subtree(pending.n, level, index)
            recent = [commit.leaf for commit in pending.commits]
            return History(transaction, tables[LEAVES], tables[NODES], pending.base.n, recent).node(level, index)

    # --- outbox ---

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first."""
        check_address(address)
        with self._commits.view() as (transaction, tables, pending):
            return read_outbox(transaction, tables, pending, address, limit)

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item by its place; None if it is not there (any more)."""
        check_place(n, index)
        with self._commits.view() as (transaction, tables, pending):
            return read_outbox_item(transaction, tables, pending, n, index)

    # --- for people ---

    def flush(self) -> None:
        """Move to the data file what stands in the journal alone, equally durable. Raises :class:`StoreError`."""
        self._commits.flush()

    def stats(self) -> StoreStats:
        """How large the store is. Raises :class:`wire.errors.StoreError`."""
        with self._commits.view() as (transaction, tables, pending):
            head = pending.head
            waiting = count_outbox(transaction, tables, pending)
        file_bytes = 0
        for path in (self._folder.data_file, self._folder.path / JOURNAL_FILE):
            try:
                file_bytes += path.stat().st_size
            except FileNotFoundError:
                pass
            except OSError as error:
                raise StoreUnavailable(f"cannot look at {path}: {error.strerror}") from error
        used_bytes = self._environment.page_bytes_used() + self._commits.journal_bytes
        return StoreStats(file_bytes, used_bytes, head.n - head.first + 1, waiting)


def _holds_keyring(transaction: Transaction, tables: Sequence[Table], keyring: bytes) -> bool:
    stored = transaction.get(KEYRING_KEY, db=tables[META])
    return stored is not None and bytes(stored) == keyring
