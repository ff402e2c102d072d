"""A store's folder at one moment, and changes to one that no honest host would make. The host is stopped meanwhile.

Rows are changed through LMDB, so that the file stays one that LMDB opens; bytes of the file are changed as bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_store.journal import JOURNAL_FILE
from host_store.lmdb_environment import LmdbEnvironment
from host_store.lmdb_store import LmdbStore
from host_store.lmdb_tables import KEYRING_KEY, LAYOUT, META, OUTBOX, PLACES, RECORDS, TABLES, record_key
from host_store.store_folder import DATA_FILE
from wire.errors import InvalidInput

if TYPE_CHECKING:
    from host_store.lmdb_environment import Table, Transaction

PAGE_BYTES: Final = 4096

Rows = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The data file and the journal beside it, byte for byte, and the number of the newest commit.

    ``journal`` may be left out of a store that was closed in order: its data file has everything.
    """

    data: bytes = field(repr=False)
    n: int
    journal: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, folder: Path, n: int) -> Snapshot:
        """The store in a folder that nobody writes to meanwhile, at commit ``n``."""
        journal = folder / JOURNAL_FILE
        return cls((folder / DATA_FILE).read_bytes(), n, journal.read_bytes() if journal.exists() else None)

    def write(self, folder: Path) -> None:
        """Put it in the place of whatever is in the folder."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        (folder / DATA_FILE).write_bytes(self.data)
        if self.journal is not None:
            (folder / JOURNAL_FILE).write_bytes(self.journal)


def settle(folder: Path) -> None:
    """Let everything move into the data file, as opening and closing a store does. Raises what keeps it from that."""
    LmdbStore.open(folder, create=False).close()


def edit(folder: Path, change: Callable[[Transaction, Sequence[Table]], None]) -> None:
    """Change rows of a closed store in one transaction, without any of the store's own checks."""
    with closing(LmdbEnvironment(folder, TABLES, LAYOUT, lambda *_: None)) as environment:
        environment.update(change, lambda *_: False)


def read_rows(folder: Path, table: int) -> Rows:
    """Every row of one table of a closed store."""
    rows: Rows = []
    with (
        closing(LmdbEnvironment(folder, TABLES, LAYOUT, lambda *_: None)) as environment,
        environment.view() as (transaction, tables),
        transaction.cursor(tables[table]) as cursor,
    ):
        rows.extend((bytes(key), bytes(value)) for key, value in cursor)
    return rows


def read_record(folder: Path, n: int) -> bytes:
    """One record of a closed store. Raises :class:`InvalidInput` if it is not there."""
    for key, value in read_rows(folder, RECORDS):
        if key == record_key(n):
            return value
    raise InvalidInput(f"there is no record {n}")


def put_record(folder: Path, n: int, record: bytes | None) -> None:
    """Let record ``n`` be these bytes, or be gone; its leaf hash stays."""

    def change(transaction: Transaction, tables: Sequence[Table]) -> None:
        if record is None:
            transaction.delete(record_key(n), db=tables[RECORDS])
        else:
            transaction.put(record_key(n), record, db=tables[RECORDS])

    edit(folder, change)


def put_keyring(folder: Path, keyring: bytes | None) -> None:
    """Let the keyring be these bytes, or be gone."""

    def change(transaction: Transaction, tables: Sequence[Table]) -> None:
        if keyring is None:
            transaction.delete(KEYRING_KEY, db=tables[META])
        else:
            transaction.put(KEYRING_KEY, keyring, db=tables[META])

    edit(folder, change)


def replace_outbox(folder: Path, outbox: Rows, places: Rows) -> None:
    """Let the outbox hold these rows and no others."""

    def change(transaction: Transaction, tables: Sequence[Table]) -> None:
        for table, rows in ((OUTBOX, outbox), (PLACES, places)):
            transaction.drop(tables[table], delete=False)
            for key, value in rows:
                transaction.put(key, value, db=tables[table])

    edit(folder, change)


def outbox_of(folder: Path) -> tuple[Rows, Rows]:
    """The rows of a closed store's outbox and of its places."""
    return read_rows(folder, OUTBOX), read_rows(folder, PLACES)


def flip_byte(data: bytes, at: int, mask: int = 1) -> bytes:
    """``data`` with some bits of one byte turned over."""
    at = range(len(data))[at]
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
