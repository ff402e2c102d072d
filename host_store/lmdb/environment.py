"""An LMDB environment that survives failed commits, full maps and threads: the one module that imports ``lmdb``.

What it adds to LMDB, each for a measured reason:

- Everything that LMDB raises leaves as a :class:`wire.errors.StoreError` with a sentence.
- The data file's length is checked before it is mapped (:mod:`host_store.lmdb.meta`), and the file is synced before
  it is believed: a predecessor that was killed may have left its last page in the page cache only.
- The disk must have room for LMDB's lock file, which LMDB would map and touch in any case: the kernel would end the
  process (SIGBUS).
- A full map is doubled and the transaction done again.
- After any other failed transaction the environment is opened anew, and what is in it decides whether the transaction
  took place; it counts as such only once another durable commit stands on top of it.
- A forked child is refused: it would share, and could commit through, its parent's environment.

Two locks: ``_writing`` for one transaction at a time, ``_mapping`` for whoever reads the map or replaces it. Readers do
not wait for a commit's sync, only for each other (microseconds) and for a map that is being replaced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import lmdb

from host_store.lmdb.meta import measure_data_file
from host_store.lmdb.store_folder import DATA_FILE, sync
from wire.errors import CorruptedStore, StoreError, StoreUnavailable, UnsupportedVersion
from wire.limits import KIB

if TYPE_CHECKING:
    Transaction: TypeAlias = "lmdb.Transaction[memoryview]"
    Table: TypeAlias = "lmdb._Database"

INITIAL_MAP_BYTES: Final = 1 << 30
"""Address space, not disk: how large a store gets before its map is doubled for the first time."""
_LMDB_09: Final = 0  # 16-byte page headers: wire.limits counts on them, and other tools read it
_LAYOUT_KEY: Final = b"layout"
_LOCK_FILE: Final = "lock.mdb"
_MOST_READERS: Final = 126
_LOCK_FILE_BYTES: Final = 8 * KIB
"""LMDB's table of so many readers."""
_CORRUPTION: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.IncompatibleError)


class LmdbEnvironment:
    """The environment in a folder that the caller has locked.

    ``tables`` names its sub-databases; the first one also holds ``layout``, which says what the tables mean. ``check``
    is called after each opening, in a read transaction, and raises what it finds wrong.
    """

    def __init__(
        self,
        folder: Path,
        tables: Sequence[str],
        layout: bytes,
        check: Callable[[Transaction, Sequence[Table]], None],
        *,
        map_bytes: int = INITIAL_MAP_BYTES,
    ) -> None:
        """Open it. Raises :class:`CorruptedStore`, :class:`UnsupportedVersion`, :class:`StoreUnavailable`."""
        self._folder = folder
        self._names = [name.encode() for name in tables]
        self._layout = layout
        self._check = check
        self._map_bytes = map_bytes
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._mapping = threading.RLock()
        self._closed = False
        self._in_doubt = False  # a commit failed, and nothing durable stands on what it may have left
        self._opened: tuple[lmdb.Environment, list[Table]] | None = self._open()

    @contextmanager
    def view(self) -> Iterator[tuple[Transaction, Sequence[Table]]]:
        """A read transaction and the tables. Values are views into the map: copy them before leaving.

        Raises :class:`StoreError`.
        """
        self.refuse_misuse()
        with self._mapping:
            environment, tables = self._current()
            try:
                with environment.begin(buffers=True) as transaction:
                    yield transaction, tables
            except lmdb.Error as error:
                raise _worded(f"cannot read the store {self._folder}", error) from error

    def update(
        self,
        change: Callable[[Transaction, Sequence[Table]], None],
        landed: Callable[[Transaction, Sequence[Table]], bool],
    ) -> None:
        """Do ``change`` in one durable transaction. It may be called more than once, each time on the state before it.

        A change must not delete what it wrote itself: LMDB would leave the file shorter than its meta page says.

        Args:
            change: writes; if it raises, nothing is changed and the exception goes on.
            landed: asked after a failed commit whether the change is in the store that was read back.

        Raises:
            StoreUnavailable: it did not take place, or nobody can know yet; the text says which.
            StoreError: closed, forked, or found corrupted.
        """
        self.refuse_misuse()
        with self._writing:
            while True:
                environment, tables = self._current()
                try:
                    with environment.begin(write=True, buffers=True) as transaction:
                        change(transaction, tables)
                    self._in_doubt = False
                    return
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    self._settle(error, landed)
                    return

    @property
    def usable(self) -> bool:
        """Whether it is open, in the process that opened it."""
        return not self._closed and os.getpid() == self._pid

    def refuse_misuse(self) -> None:
        """Raises :class:`StoreError`: it was closed, or this process was forked from the one that opened it."""
        # Before any lock is asked for: in a forked child it may be held by a thread that does not exist there.
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self._folder} belongs to process {self._pid}, which this one was forked from: "
                "open a store after forking, not before"
            )
        if self._closed:
            raise StoreError(f"the store {self._folder} was closed")

    def page_bytes_used(self) -> int:
        """Bytes of all pages in use: meta pages, the main table, the sub-databases. Raises :class:`StoreError`."""
        with self.view() as (transaction, tables):
            main = transaction.stat()
            every = [main, *(transaction.stat(table) for table in tables)]
            pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in every)
            return (2 + pages) * main["psize"]

    def close(self) -> None:
        """Close it; again is fine. In a forked child this does nothing: the environment is the parent's."""
        if os.getpid() != self._pid:
            return
        with self._writing:
            self._closed = True
            self._discard()

    def _current(self) -> tuple[lmdb.Environment, list[Table]]:
        opened = self._opened
        if opened is None:
            with self._mapping:
                if self._closed:
                    raise StoreError(f"the store {self._folder} was closed")
                opened = self._opened or self._open()
                self._opened = opened
        return opened

    def _open(self) -> tuple[lmdb.Environment, list[Table]]:
        data_file = self._folder / DATA_FILE
        length = measure_data_file(data_file)
        doing = f"cannot open the store {self._folder}"
        try:
            if length.actual < length.needed:
                _vouch_for_short_file(data_file, length.actual, length.needed)
            sync(data_file)
            _reserve_lock_file(self._folder)
            environment = lmdb.Environment(
                str(self._folder),
                map_size=max(self._map_bytes, length.needed),
                create=False,
                mode=0o600,
                max_dbs=len(self._names),
                max_readers=_MOST_READERS,
                max_spare_txns=1,
                lib_version=_LMDB_09,
            )
        except lmdb.Error as error:
            raise _worded(doing, error) from error
        except OSError as error:
            raise StoreUnavailable(f"{doing}: {error.strerror}") from error
        try:
            tables = self._open_tables(environment)
            if self._in_doubt:
                self._rewrite_layout(environment, tables)
        except lmdb.Error as error:
            environment.close()
            raise _worded(doing, error) from error
        except BaseException:
            environment.close()
            raise
        return environment, tables

    def _open_tables(self, environment: lmdb.Environment) -> list[Table]:
        """The table handles of a store of our layout. Raises :class:`StoreError`, ``lmdb.Error``."""
        try:
            first = environment.open_db(self._names[0], create=False)
            with environment.begin() as transaction:
                layout = transaction.get(_LAYOUT_KEY, db=first)
        except (lmdb.NotFoundError, lmdb.IncompatibleError) as error:
            raise CorruptedStore(f"{self._folder} holds an LMDB database, but not one of this project") from error
        if layout != self._layout:
            raise UnsupportedVersion(
                f"the store {self._folder} has the layout {layout!r}; this program reads {self._layout!r} only"
            )
        try:
            tables = [first, *(environment.open_db(name, create=False) for name in self._names[1:])]
        except lmdb.NotFoundError as error:
            raise CorruptedStore(f"the store {self._folder} lacks one of its tables: restore it from a copy") from error
        with environment.begin(buffers=True) as view:
            self._check(view, tables)
        return tables

    def _rewrite_layout(self, environment: lmdb.Environment, tables: Sequence[Table]) -> None:
        """A durable commit that changes nothing, so that everything below it is durable as well."""
        with environment.begin(write=True) as transaction:
            transaction.put(_LAYOUT_KEY, self._layout, db=tables[0])
        self._in_doubt = False

    def _grow(self) -> None:
        """Double the map. Raises :class:`StoreUnavailable`."""
        with self._mapping:
            environment, _tables = self._current()
            self._map_bytes = 2 * environment.info()["map_size"]
            try:
                environment.set_mapsize(self._map_bytes)
            except lmdb.Error as error:
                self._map_bytes //= 2
                self._discard()  # LMDB has unmapped it already
                raise _worded("nothing was changed: no room to map a larger store", error) from error

    def _settle(self, error: lmdb.Error, landed: Callable[[Transaction, Sequence[Table]], bool]) -> None:
        """After a failed transaction: return if it took place all the same, else raise."""
        try:
            with self._mapping:
                self._discard()
                with self.view() as (transaction, tables):
                    found = landed(transaction, tables)
                if found:
                    self._in_doubt = True
                    self._discard()
                    self._current()
        except StoreError as unreadable:
            self._in_doubt = True
            self._discard()
            raise _worded(
                f"the outcome is unknown, ask again with the same bytes: cannot write to {self._folder} ({unreadable})",
                error,
            ) from error
        if not found:
            raise _worded(f"nothing was changed: cannot write to {self._folder}", error) from error

    def _discard(self) -> None:
        """Close the environment; the next call opens it anew, unless the store was closed."""
        with self._mapping:
            if self._opened is not None:
                environment, _tables = self._opened
                self._opened = None
                environment.close()


def create_environment(folder: Path, tables: Sequence[str], layout: bytes) -> None:
    """Make an environment with empty tables in an empty folder. Raises :class:`StoreUnavailable`, :class:`OSError`."""
    _reserve_lock_file(folder)
    try:
        with (
            lmdb.Environment(
                str(folder),
                create=False,
                mode=0o600,
                max_dbs=len(tables),
                max_readers=_MOST_READERS,
                lib_version=_LMDB_09,
            ) as made,
            made.begin(write=True) as transaction,
        ):
            handles = [made.open_db(name.encode(), txn=transaction) for name in tables]
            transaction.put(_LAYOUT_KEY, layout, db=handles[0])
    except lmdb.Error as error:
        raise _worded("cannot create a store", error) from error


def _reserve_lock_file(folder: Path) -> None:
    """Have room on the disk for the file that LMDB is going to map. Raises :class:`OSError`."""
    fd = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _LOCK_FILE_BYTES)
    finally:
        os.close(fd)


def _vouch_for_short_file(data_file: Path, actual: int, needed: int) -> None:
    """Lengthen a file that is short by free pages only, which LMDB never reads. Raises :class:`CorruptedStore`.

    LMDB counts pages that a transaction took and freed again, but does not write them. Only a walk over every page
    tells such a file from one that was cut off.
    """
    from lmdb import verify

    try:
        problems: list[str] = verify.verify(str(data_file), subdir=False)  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        problems = [str(error)]
    if problems:
        raise CorruptedStore(
            f"{data_file} was cut off: it has {actual} bytes and refers to {needed}; restore it from a copy "
            f"({problems[0]})"
        )
    os.truncate(data_file, needed)


def _worded(what: str, error: lmdb.Error) -> StoreError:
    """The error of our tree for one of LMDB's."""
    sentence = f"{what}: {error}"
    if isinstance(error, lmdb.VersionMismatchError):
        return UnsupportedVersion(sentence)
    if isinstance(error, _CORRUPTION):
        return CorruptedStore(sentence)
    return StoreUnavailable(sentence)
