"""The persistent map without mail: a library call for a program that holds the evidence itself.

The program plays both enclave and client: it has the sealing key, and it keeps the last checkpoint where the
disk's owner cannot reach it. Opening a store that is older than that checkpoint, or of another history, raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from host_store.lmdb.lmdb_store import LmdbStore
from host_store.store import Store
from pmap.entries import META, Entries
from pmap.keyring import Keyring, check_sealing_key
from pmap.log import Commit, CommitLog, LogSettings
from pmap.map import PersistentMap
from pmap.replay import Replay
from pmap.sweep import INCREMENTAL, SweepPolicy
from wire.checkpoint import Checkpoint, parse_note, verify_checkpoint
from wire.crypto import Randomness, system_randomness
from wire.errors import (
    CorruptedStore,
    EvidenceUnproven,
    ForkDetected,
    InvalidInput,
    ProofInvalid,
    RollbackDetected,
    StoreError,
    StoreMissing,
    StoreReplaced,
    StoreUnavailable,
)
from wire.merkle import prove_consistency, tree_root
from wire.sizes import parse_size


class DurableLog:
    """A log and the store that keeps it: each transaction is one durable commit."""

    __slots__ = ("_store", "_unstored", "log")

    def __init__(self, log: CommitLog, store: Store) -> None:
        self.log = log
        self._store = store
        self._unstored: Commit | None = None

    @property
    def entries(self) -> Entries:
        """What the log is of."""
        return self.log.entries

    @property
    def checkpoint(self) -> str:
        """What to keep where the disk's owner cannot reach: the newest commit, as a C2SP signed note.

        Give it back as ``expect`` when the store is opened next. Raises :class:`StoreUnavailable` while that commit
        cannot be stored: evidence of what is not durable would be a false alarm after a crash.
        """
        self.flush()
        return self.log.checkpoint.note(self.log.public_key)

    @property
    def commit(self) -> int:
        """The number of the newest commit."""
        return self.log.n

    @contextmanager
    def transaction(self, *, single: bool = False) -> Iterator[None]:
        """All writes inside become one durable commit at the end, or, after an exception, none of them.

        Raises:
            InvalidInput: inside another transaction.
            StoreUnavailable: the disk refused the commit. The writes are kept in memory and stored by the next
                commit or :meth:`flush`; closing the store before that loses them.
        """
        self.flush()
        with self.log.entries.transaction(single=single):
            yield
        self._unstored = self.log.commit()
        self.flush()

    def one_call(self) -> AbstractContextManager[None]:
        """The transaction of one call of the map or the files."""
        return self.transaction(single=True)

    def flush(self) -> None:
        """Store what an earlier commit could not. Raises :class:`StoreUnavailable`."""
        commit = self._unstored
        if commit is not None:
            # The same bytes each time: a record is made once.
            self._store.append(commit.n, commit.record, commit.leaf, trim=commit.tail)
            self._unstored = None

    def close(self) -> None:
        """Close the store. Again is fine."""
        self._store.close()


class EmbeddedMap(PersistentMap):
    """A :class:`pmap.PersistentMap` on a store of its own. :func:`open_map` makes one.

    Each write is one durable commit; ``with map.transaction():`` makes many writes one. An exception inside
    undoes them.
    """

    __slots__ = ("_durable", "_log")

    def __init__(self, durable: DurableLog, max_size: int) -> None:
        super().__init__(durable.entries, max_size, autocommit=durable.one_call)
        self._durable = durable
        self._log = durable.log

    @property
    def checkpoint(self) -> str:
        """What to keep where the disk's owner cannot reach: the newest commit, as a C2SP signed note.

        Give it back as ``expect`` at the next :func:`open_map`.
        """
        return self._durable.checkpoint

    @property
    def commit(self) -> int:
        """The number of the newest commit."""
        return self._durable.commit

    def transaction(self) -> AbstractContextManager[None]:
        """As :meth:`DurableLog.transaction`."""
        return self._durable.transaction()

    def flush(self) -> None:
        """Store what an earlier commit could not. Raises :class:`StoreUnavailable`."""
        self._durable.flush()

    def close(self) -> None:
        """Close the store. Again is fine."""
        self._durable.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_map(
    path: str | Path,
    key: bytes,
    *,
    expect: str | Checkpoint | None = None,
    max_size: str | int = "16m",
    create: bool = True,
    sweep: SweepPolicy = INCREMENTAL,
    randomness: Randomness = system_randomness,
) -> EmbeddedMap:
    """Open the map in folder ``path``, or make a new one.

    Args:
        key: 32 random bytes, the same each time. Whoever has them reads the map and can make another.
        expect: the last :attr:`EmbeddedMap.checkpoint` that you kept. Without it, nothing is said of freshness:
            leave it out only the first time.
        max_size: the most that the map may hold: bytes, or a number with ``k``, ``m`` or ``g``.
        create: whether to make a new store where there is none. Never done when ``expect`` is given.
        sweep: ``"incremental"`` or ``"full"`` (re-encrypt the whole map with every commit).

    Raises:
        RollbackDetected: the store is older than ``expect``.
        ForkDetected: the store's history is another than ``expect``'s.
        StoreReplaced: the store is another one than ``expect``'s, or gone.
        EvidenceInvalid: ``expect`` was not signed by this store.
        EvidenceUnproven: the store cannot show how ``expect`` belongs to its history.
        WrongKey, CorruptedStore, UnsupportedVersion, StoreMissing, StoreLocked, StoreUnavailable, InvalidInput.
    """
    limit = parse_size(max_size)
    durable = open_log(path, key, expect, LogSettings(sweep), create=create, randomness=randomness)
    return EmbeddedMap(durable, limit)


def open_log(
    path: str | Path,
    key: bytes,
    expect: str | Checkpoint | None,
    settings: LogSettings,
    *,
    create: bool,
    randomness: Randomness,
) -> DurableLog:
    """Open the log in folder ``path``, or make a new one, as :func:`open_map` says."""
    check_sealing_key(key)
    store = _open_store(path, create=create and expect is None, expected=expect is not None)
    try:
        blob = store.keyring()
        if blob is not None:
            log = _restart(store, key, blob, settings, randomness)
        elif expect is not None:
            raise StoreReplaced(f"the store in '{path}' is new and empty, but a checkpoint of an older one is expected")
        elif not create:
            raise StoreMissing(f"the store in '{path}' is empty")
        else:
            log = _found(store, key, settings, randomness)
        if expect is not None:
            check_expected(log, store, expect)
        return DurableLog(log, store)
    except BaseException:
        store.close()
        raise


def check_expected(log: CommitLog, store: Store, expect: str | Checkpoint) -> None:
    """Compare a replayed log with the checkpoint that its user kept. Raises as :func:`open_map` says."""
    checkpoint = parse_note(expect, log.public_key) if isinstance(expect, str) else expect
    if checkpoint.store_id != log.store_id:
        raise StoreReplaced("the store here is another one than the expected checkpoint's")
    verify_checkpoint(checkpoint, log.public_key)
    size, n = checkpoint.size, log.n
    if size > n:
        raise RollbackDetected(
            f"the store stands at commit {n}, but the checkpoint that you kept is of commit {size}:"
            " it was taken back to an older state",
            checkpoint=checkpoint,
        )
    root = log.history.root_at(size)
    if root is None:
        try:
            node = store.node
            log.history.learn(size, tree_root(size, node), n, prove_consistency(size, n, node))
        except (ProofInvalid, StoreError, InvalidInput) as error:
            raise EvidenceUnproven(
                f"the store cannot show how commit {size} belongs to its history", checkpoint=checkpoint
            ) from error
        root = log.history.root_at(size)
    if root != checkpoint.root:
        raise ForkDetected(
            f"the store's history has another commit {size} than the checkpoint that you kept", checkpoint=checkpoint
        )


def _open_store(path: str | Path, *, create: bool, expected: bool) -> LmdbStore:
    try:
        return LmdbStore.open(path, create=create)
    except StoreMissing as error:
        if expected:
            raise StoreReplaced(f"there is no store in '{path}', but a checkpoint of one is expected") from error
        raise


def _found(store: Store, key: bytes, settings: LogSettings, randomness: Randomness) -> CommitLog:
    keyring = Keyring.generate(randomness)
    log = CommitLog(keyring, randomness, settings=settings)
    with log.entries.transaction():
        log.entries.put(META + b"created", b"\x01")
    first = log.commit()
    store.create(keyring.seal(key, randomness), first.record, first.leaf)
    return log


def _restart(
    store: Store, key: bytes, untrusted_keyring: bytes, settings: LogSettings, randomness: Randomness
) -> CommitLog:
    replay = Replay(Keyring.unseal(key, untrusted_keyring))
    head = store.head()
    if head.n == 0:
        raise CorruptedStore("the store has a keyring but no records: they were removed")
    replay.show_last(next(store.read(head.n, head.n + 1)))
    replay.feed(store.read(head.first, head.n + 1))
    return replay.finish(randomness, settings)


__all__ = ["EmbeddedMap", "StoreUnavailable", "check_expected", "open_map"]
