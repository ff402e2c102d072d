"""A store in a folder, in the hands of its owner.

Rows are changed through LMDB, so that the file stays one that LMDB opens; bytes of the file are changed as bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from host_store.adversary.snapshot import Snapshot
from host_store.lmdb.environment import LmdbEnvironment
from host_store.lmdb.journal import JOURNAL_FILE
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.lmdb.store_folder import DATA_FILE
from host_store.lmdb.tables import KEYRING_KEY, LAYOUT, META, OUTBOX, PLACES, RECORDS, TABLES, record_key
from wire.errors import InvalidInput

if TYPE_CHECKING:
    from host_store.lmdb.environment import Table, Transaction

Rows = list[tuple[bytes, bytes]]


class FolderMedium:
    """A :class:`host_store.adversary.medium.Medium`: LMDB's data file and the journal beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> LmdbStore:
        """As every host does."""
        return LmdbStore.open(self.folder)

    def beside(self, name: str) -> FolderMedium:
        """A folder whose name has an ending."""
        return FolderMedium(self.folder.with_name(f"{self.folder.name}-{name}"))

    def close(self) -> None:
        """Nothing to let go of."""

    def snapshot(self, n: int) -> Snapshot:
        """The two files."""
        return Snapshot.of(self.folder, n)

    def restore(self, snapshot: Snapshot) -> None:
        """The two files, and nothing else."""
        snapshot.write(self.folder)

    def delete(self) -> None:
        """The folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- rows ---

    def read_record(self, n: int) -> bytes:
        """One row."""
        for key, value in self._rows(RECORDS):
            if key == record_key(n):
                return value
        raise InvalidInput(f"there is no record {n}")

    def put_record(self, n: int, record: bytes | None) -> None:
        """One row."""
        self._put(RECORDS, record_key(n), record)

    def put_keyring(self, keyring: bytes | None) -> None:
        """One row."""
        self._put(META, KEYRING_KEY, keyring)

    def put_outbox_of(self, snapshot: Snapshot) -> None:
        """Two tables."""
        aside = self.beside("aside")
        aside.restore(snapshot)
        aside.open().close()  # everything moves into the data file
        found = [(table, aside._rows(table)) for table in (OUTBOX, PLACES)]
        aside.delete()

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            for table, rows in found:
                transaction.drop(tables[table], delete=False)
                for key, value in rows:
                    transaction.put(key, value, db=tables[table])

        self._edit(change)

    def _put(self, table: int, key: bytes, value: bytes | None) -> None:
        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            if value is None:
                transaction.delete(key, db=tables[table])
            else:
                transaction.put(key, value, db=tables[table])

        self._edit(change)

    def _edit(self, change: Callable[[Transaction, Sequence[Table]], None]) -> None:
        """In one transaction, without any of the store's own checks."""
        with closing(LmdbEnvironment(self.folder, TABLES, LAYOUT, lambda *_: None)) as environment:
            environment.update(change, lambda *_: False)

    def _rows(self, table: int) -> Rows:
        rows: Rows = []
        with (
            closing(LmdbEnvironment(self.folder, TABLES, LAYOUT, lambda *_: None)) as environment,
            environment.view() as (transaction, tables),
            transaction.cursor(tables[table]) as cursor,
        ):
            rows.extend((bytes(key), bytes(value)) for key, value in cursor)
        return rows

    # --- bytes ---

    def change_files(self, data: Callable[[bytes], bytes], journal: Callable[[bytes], bytes] | None) -> None:
        """Change the data file, and perhaps the journal."""
        for name, change in ((DATA_FILE, data), (JOURNAL_FILE, journal)):
            if change is not None:
                (self.folder / name).write_bytes(change((self.folder / name).read_bytes()))
