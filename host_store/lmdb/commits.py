"""The way of a commit into LMDB: durable in the journal at once, in LMDB with the next group.

While the journal is in use, LMDB holds its id. So whoever opens the store knows whether there is more than LMDB has:

- An opening begins without a journal. The first append goes to LMDB directly, together with the id of the journal
  that the next ones use. A clean close moves everything to LMDB and takes the id out again: then the data file alone
  is the store.
- A group goes to LMDB when the journal is full, or with a commit that is too large for it: one transaction, then the
  journal begins again.
- If the journal cannot be written, the commit goes to LMDB, with all that are pending and without the id. Whether the
  failed frame reached the disk does not matter then: its number is taken. A journal is begun anew after that.

Two locks: ``_appending`` for one commit at a time, ``_seeing`` for whoever looks at LMDB and the pending commits
together, or moves commits from one to the other. Readers never wait for the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from host_store.arguments import Commit
from host_store.lmdb.environment import LmdbEnvironment
from host_store.lmdb.history import History, append_leaves, read_leaves
from host_store.lmdb.journal import JOURNAL_FILE, MAX_FRAME_BYTES, Journal, read_journal
from host_store.lmdb.journal_frame import frame_length
from host_store.lmdb.store_folder import StoreFolder
from host_store.lmdb.tables import (
    JOURNAL_KEY,
    LEAVES,
    META,
    NODES,
    change_outbox,
    holds_record,
    read_head,
    replace_records,
)
from host_store.pending import NO_LEAF, Pending
from wire.errors import StoreError, StoreFenced, StoreUnavailable

if TYPE_CHECKING:
    from host_store.lmdb.environment import Table, Transaction

_RETRY_COMMITS: Final = 256
"""Commits until a journal is tried again that could not be begun."""
_log: Final = logging.getLogger("pmap.host")


class LmdbCommits:
    """The commits of one opening of a store: what is pending, the journal, and their way to LMDB."""

    def __init__(self, folder: StoreFolder, environment: LmdbEnvironment, journal_bytes: int) -> None:
        """Move to LMDB what the journal of a predecessor holds.

        Raises :class:`CorruptedStore`, :class:`StoreUnavailable`.
        """
        self._folder = folder
        self._path = folder.path / JOURNAL_FILE
        self._journal_bytes = journal_bytes
        self._environment = environment
        self._appending = threading.Lock()
        self._seeing = threading.Lock()
        self._journal: Journal | None = None
        self._next_attempt = 0  # to begin one: from this commit on
        self._moving = False  # a transaction is under way
        self._unsettled = False  # the outcome of a transaction was not seen yet
        self._closed = False
        with environment.view() as (transaction, tables):
            self._pending = _stored(transaction, tables)
            journal_id = transaction.get(JOURNAL_KEY, db=tables[META])
            self._marked = journal_id is not None
            """Whether LMDB may hold a journal's id: then the file is not to be written over."""
            untrusted_id = b"" if journal_id is None else bytes(journal_id)
        if self._marked:
            for commit in read_journal(self._path, untrusted_id, self._pending.n, self._pending.leaf):
                self._pending = self._pending.with_next(commit)
            with suppress(StoreUnavailable):  # a full disk: they are durable where they are, and can be read
                self._store(self._pending, None)

    @contextmanager
    def view(self) -> Iterator[tuple[Transaction, Sequence[Table], Pending]]:
        """A read transaction, the tables, and the commits on top of them. Raises :class:`StoreError`."""
        self._environment.refuse_misuse()
        # Together: what is pending is what LMDB does not show, also while a group is on its way there.
        with self._seeing, self._environment.view() as (transaction, tables):
            if self._unsettled:
                self._settle(transaction, tables)
            yield transaction, tables, self._pending

    @contextmanager
    def changing(self) -> Iterator[None]:
        """For a transaction beside the commits: no append meanwhile, and the window is read anew afterwards."""
        self._environment.refuse_misuse()
        with self._appending:
            with self.view():
                pass
            self._unsettled = self._moving = True
            try:
                yield
            finally:
                self._moving = False

    def append(self, commit: Commit) -> None:
        """Make the next commit durable; see :meth:`host_store.store.Store.append`."""
        self._environment.refuse_misuse()
        with self._appending:
            if self._closed:  # while this waited: by now the journal's file may be another process's
                raise StoreError(f"the store {self._folder.path} was closed")
            if self._unsettled:
                with self.view():
                    pass
            pending, journal = self._pending, self._journal
            if commit.n != pending.n + 1:
                self._check_repeated(commit)
                return
            group = pending.with_next(commit)
            if journal is None:
                self._store(group, None if self._marked else self._begin_journal())
            elif (length := frame_length(commit)) > MAX_FRAME_BYTES or not journal.has_room(length):
                self._store(group, journal)
            elif not self._journalled(journal, commit, group):
                self._store(group, None)

    @property
    def journal_bytes(self) -> int:
        """What the pending commits take in the journal."""
        journal = self._journal
        return 0 if journal is None else journal.used_bytes

    def flush(self) -> None:
        """Move what is pending to LMDB. Raises :class:`StoreError`."""
        self._environment.refuse_misuse()
        with self._appending:
            with self.view() as (_transaction, _tables, pending):
                pass
            if pending.commits:
                self._store(pending, self._journal)

    def close(self) -> None:
        """Move everything to LMDB, which then is the whole store; what cannot be moved stays in the journal."""
        with self._appending:
            self._closed = True
            try:
                with self.view() as (_transaction, _tables, pending):
                    pass
                if self._marked or pending.commits:
                    self._store(pending, None)
            except StoreError as error:
                _log.warning("the newest commits stay in the journal %s: %s", self._path, error)
            finally:
                self._give_up_journal()

    # --- the journal ---

    def _begin_journal(self) -> Journal | None:
        """Take the file into use; None if it cannot be."""
        if self._pending.n < self._next_attempt:
            return None
        try:
            return Journal(self._path, self._journal_bytes)
        except OSError as error:
            _log.warning("commits go on without the journal %s: %s", self._path, error.strerror or error)
            self._next_attempt = self._pending.n + _RETRY_COMMITS
            return None

    def _give_up_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _journalled(self, journal: Journal, commit: Commit, group: Pending) -> bool:
        """Write the commit's frame. False if it could not be written, or nobody knows. Raises :class:`StoreFenced`."""
        self._folder.check_owner()
        try:
            journal.write(commit, self._pending.leaf)
            # Asked again: whoever got past the lock writes its name there before it reads the journal.
            self._folder.check_owner()
            self._pending = group
        except OSError as error:
            _log.warning("cannot write the journal %s: %s", self._path, error.strerror or error)
            self._give_up_journal()
            return False
        except BaseException:
            self._give_up_journal()  # nobody knows how far it came
            raise
        return True

    # --- LMDB ---

    def _store(self, group: Pending, journal: Journal | None) -> None:
        """Move a group to LMDB in one durable transaction; behind it, ``journal`` is in use, or none.

        Raises as :meth:`host_store.store.Store.append`; then nothing of this moved, or it is found out later.
        """
        self._folder.check_owner()
        self._unsettled = True
        self._marked = True
        used, self._journal = self._journal, None
        if used is not None and used is not journal:
            used.close()
        pending = self._pending

        def change(transaction: Transaction, tables: Sequence[Table]) -> None:
            stored = _stored(transaction, tables)
            if (stored.base, stored.base_leaf) != (pending.base, pending.base_leaf):
                raise _fenced(stored.n, pending.base.n)
            mark(transaction, tables)
            write_group(transaction, tables, group)

        def mark(transaction: Transaction, tables: Sequence[Table]) -> None:
            if journal is None:
                transaction.delete(JOURNAL_KEY, db=tables[META])
            elif journal is not used:
                transaction.put(JOURNAL_KEY, journal.id, db=tables[META])

        def landed(transaction: Transaction, tables: Sequence[Table]) -> bool:
            found = transaction.get(JOURNAL_KEY, db=tables[META])
            wanted = None if journal is None else journal.id
            return holds_group(transaction, tables, group) and (None if found is None else bytes(found)) == wanted

        try:
            self._moving = True
            self._environment.update(change, landed)
            with self._seeing:
                self._pending = Pending.none(group.head, group.leaf)
                self._unsettled = False
        except BaseException:
            if journal is not None:
                journal.close()
            raise
        finally:
            self._moving = False
        self._marked = journal is not None
        if journal is not None:
            journal.restart()
            self._journal = journal

    def _settle(self, transaction: Transaction, tables: Sequence[Table]) -> None:
        """Find out whether the pending commits are in LMDB. Raises :class:`StoreFenced`: another writer's are."""
        stored, pending = _stored(transaction, tables), self._pending
        if (stored.base, stored.base_leaf) != (pending.base, pending.base_leaf):
            if _leaf(transaction, tables, min(pending.n, stored.n)) != pending.leaf:
                raise _fenced(stored.n, pending.n)
            self._pending = stored
        self._unsettled = self._moving

    def _check_repeated(self, commit: Commit) -> None:
        """A commit whose turn it is not: fine if it is the newest, again. Raises :class:`StoreFenced`."""
        with self.view() as (transaction, tables, pending):
            newest = pending.commit(commit.n)
            if commit.n == pending.n and commit.leaf == pending.leaf:
                if newest is not None and newest.record == commit.record:
                    return
                if newest is None and holds_record(transaction, tables, commit.n, commit.record):
                    return
        if commit.n > pending.n:
            raise StoreFenced(f"record {commit.n} does not follow the stored ones: record {commit.n - 1} is missing")
        raise StoreFenced(f"record {commit.n} exists already, the newest is {pending.n}: is another writer at work?")


def _fenced(found: int, expected: int) -> StoreFenced:
    return StoreFenced(f"the newest record in LMDB is {found} and not our {expected}: is another writer at work?")


def _stored(transaction: Transaction, tables: Sequence[Table]) -> Pending:
    """What LMDB has, with nothing pending."""
    head = read_head(transaction, tables)
    return Pending.none(head, _leaf(transaction, tables, head.n))


def _leaf(transaction: Transaction, tables: Sequence[Table], n: int) -> bytes:
    return read_leaves(transaction, tables[LEAVES], n - 1, n)[0] if n else NO_LEAF


def write_group(transaction: Transaction, tables: Sequence[Table], group: Pending) -> None:
    """Everything that a group changes."""
    replace_records(transaction, tables, group)
    change_outbox(transaction, tables, group)
    append_leaves(transaction, tables[LEAVES], group.base.n, [commit.leaf for commit in group.commits])
    History(transaction, tables[LEAVES], tables[NODES], group.n).store_completed_nodes(group.base.n)


def holds_group(transaction: Transaction, tables: Sequence[Table], group: Pending) -> bool:
    """Whether exactly this group is the newest that LMDB has."""
    stored = _stored(transaction, tables)
    if (stored.n, stored.leaf) != (group.n, group.leaf):
        return False
    return not group.commits or holds_record(transaction, tables, group.n, group.commits[-1].record)
