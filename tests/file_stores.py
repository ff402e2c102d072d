"""Filesystems on a real log whose records a list keeps: restarts without a disk, and every record to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.settings import FilesystemSettings
from pmap.filesystem.setup import mount
from pmap.keyring import Keyring
from pmap.log import CommitLog
from pmap.map import PersistentMap
from pmap.replay import Replay

MIB = 1024 * 1024


class TickingClock:
    """A clock that is read in order: each reading is one second later."""

    def __init__(self) -> None:
        self._ticks = count(1_700_000_000)

    def __call__(self) -> int:
        return next(self._ticks) * 10**9


class LoggedFiles:
    """A log with files and a map. ``trace``: (record number, length, tail) of each commit."""

    def __init__(self, persistent: int = 16 * MIB, memory: int = 0, log: CommitLog | None = None, **settings: bool):
        self.settings = FilesystemSettings(persistent, memory, **settings)
        self.clock = TickingClock()
        self._keyring = Keyring.generate(os.urandom)
        self.records: list[bytes] = []
        self.trace: list[tuple[int, int, int]] = []
        self._start(CommitLog(self._keyring, os.urandom))
        self._store()

    def _start(self, log: CommitLog) -> None:
        self.log = log
        files = mount(log.entries, self.settings, clock=self.clock, autocommit=self.one_call)
        assert files is not None
        self.fs: FileSystem = files
        self.map = PersistentMap(log.entries, MIB, autocommit=self.one_call)

    @contextmanager
    def transaction(self, *, single: bool = False) -> Iterator[None]:
        """All or nothing, and one record."""
        with self.log.entries.transaction(single=single):
            yield
        self._store()

    @contextmanager
    def one_call(self) -> Iterator[None]:
        with self.transaction(single=True):
            yield

    def _store(self) -> None:
        made = self.log.commit()
        self.records.append(made.record)
        self.trace.append((made.n, len(made.record), made.tail))

    def restart(self, settings: FilesystemSettings | None = None) -> None:
        """End this incarnation, however it stands, and replay the window into another."""
        self.settings = settings or self.settings
        replay = Replay(self._keyring)
        replay.feed(self.records[self.log.tail - 1 :])
        self._start(replay.finish(os.urandom))
        if self.log.entries.changes:
            self._store()
