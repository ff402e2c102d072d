"""A map and files without mail: a library call for a program that holds the evidence itself.

As :mod:`host_store.in_process.embedded`, for programs that want files too. Map and files stand in one log: a
transaction over both is one durable commit, and one checkpoint says how new both are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from host_store.in_process.embedded import DurableLog, open_log
from pmap.filesystem.clock import Clock, system_clock
from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.settings import SMALLEST_RECORD_BYTES, FilesystemSettings
from pmap.filesystem.setup import mount
from pmap.filesystem.volume import stored_size
from pmap.log import LogSettings
from pmap.map import PersistentMap
from pmap.sweep import INCREMENTAL, SweepPolicy
from wire.checkpoint import Checkpoint
from wire.crypto import Randomness, system_randomness
from wire.errors import InvalidInput
from wire.sizes import parse_size


class EmbeddedStore:
    """An open store with a map and files. :func:`open_store` makes one.

    Each call that writes is one durable commit; ``with store.transaction():`` makes one of many. An exception inside
    undoes them all, and makes every open file stale.
    """

    def __init__(self, durable: DurableLog, map_size: int, files: FilesystemSettings, clock: Clock) -> None:
        self._durable = durable
        self.map = PersistentMap(durable.entries, map_size, autocommit=durable.one_call)
        self._fs = mount(durable.entries, files, clock=clock, autocommit=durable.one_call, sync=durable.flush)
        if durable.entries.changes:
            # The filesystem was made just now, or has grown.
            with durable.transaction():
                pass

    @property
    def fs(self) -> FileSystem:
        """The files. Raises :class:`InvalidInput` if the store has none."""
        if self._fs is None:
            raise InvalidInput("the store has no filesystem: open it with filesystem_size to make one")
        return self._fs

    @property
    def checkpoint(self) -> str:
        """What to keep where the disk's owner cannot reach: the newest commit, as a C2SP signed note.

        Give it back as ``expect`` at the next :func:`open_store`.
        """
        return self._durable.checkpoint

    @property
    def commit(self) -> int:
        """The number of the newest commit."""
        return self._durable.commit

    def transaction(self) -> AbstractContextManager[None]:
        """As :meth:`host_store.in_process.embedded.DurableLog.transaction`."""
        return self._durable.transaction()

    def flush(self) -> None:
        """Store what an earlier commit could not. Raises :class:`wire.errors.StoreUnavailable`."""
        self._durable.flush()

    def close(self) -> None:
        """Write what open files and databases hold back, and close the store. Again is fine."""
        try:
            if self._fs is not None:
                self._fs.close()
        finally:
            self._durable.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(
    path: str | Path,
    key: bytes,
    *,
    expect: str | Checkpoint | None = None,
    map_size: str | int = "16m",
    filesystem_size: str | int | None = None,
    memory_filesystem_size: str | int = "0",
    grow: bool = False,
    create: bool = True,
    sweep: SweepPolicy = INCREMENTAL,
    smallest_record: int = SMALLEST_RECORD_BYTES,
    randomness: Randomness = system_randomness,
    clock: Clock = system_clock,
) -> EmbeddedStore:
    """Open the store in folder ``path``, or make a new one.

    Args:
        key: 32 random bytes, the same each time. Whoever has them reads the store and can make another.
        expect: the last :attr:`EmbeddedStore.checkpoint` that you kept. Without it, nothing is said of freshness:
            leave it out only the first time.
        map_size: the most that the map may hold: bytes, or a number with ``k``, ``m`` or ``g``.
        filesystem_size: the filesystem's size, in the same syntax; made when it is given for the first time. None:
            whatever the store has.
        memory_filesystem_size: that of the one in memory, at ``/tmp`` (at ``/`` if it is the only one); 0: none.
        grow: whether a ``filesystem_size`` larger than the stored one makes the filesystem grow. Safe at any crash.
        create: whether to make a new store where there is none. Never done when ``expect`` is given.
        sweep: ``"incremental"`` or ``"full"`` (re-encrypt everything with every commit).
        smallest_record: the smallest size class of a commit's record; see ``docs/filesystem.md``.

    Raises:
        InvalidInput: settings that make no sense; the stored filesystem has another size.
        As :func:`host_store.in_process.embedded.open_map`: RollbackDetected, ForkDetected and all others.
    """
    limit = parse_size(map_size)
    files = FilesystemSettings.parse(filesystem_size or 0, memory_filesystem_size, grow)
    log_settings = LogSettings(sweep, smallest_record)
    durable = open_log(path, key, expect, log_settings, create=create, randomness=randomness)
    try:
        if filesystem_size is None:
            files = FilesystemSettings(stored_size(durable.entries) or 0, files.memory)
        return EmbeddedStore(durable, limit, files, clock)
    except BaseException:
        durable.close()
        raise


__all__ = ["EmbeddedStore", "open_store"]
