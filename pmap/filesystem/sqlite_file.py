"""An SQLite database file on a volume.

What SQLite writes is held back until it syncs, which it does once for each SQL transaction, and then goes into the
volume in one piece: a database is never half written, whatever happens, so it needs no journal on disk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import apsw

from pmap.filesystem import content
from pmap.filesystem.files import RawFile
from wire.limits import BLOCK_BYTES

T = TypeVar("T")
_UNLOCKED = apsw.SQLITE_LOCK_NONE
_RESERVED = apsw.SQLITE_LOCK_RESERVED
_CHARACTERISTICS = (
    apsw.SQLITE_IOCAP_ATOMIC4K
    | apsw.SQLITE_IOCAP_SAFE_APPEND
    | apsw.SQLITE_IOCAP_SEQUENTIAL
    | apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
)

Locks = dict[tuple[int, int], "DatabaseFile"]
"""Who has a lock on which (volume, inode): one connection at a time."""


class DatabaseFile:
    """One open file, as ``apsw`` wants it (see its VFSFile).

    ``whole``: hold writes back until the sync. ``closed`` is told when SQLite closes the file.
    """

    def __init__(self, raw: RawFile, locks: Locks, *, whole: bool, closed: Callable[[DatabaseFile], None]) -> None:
        self._closed = closed
        self._raw = raw
        self._volume = raw.volume
        self._locks = locks
        self._inode = raw.inode().number
        self._level = _UNLOCKED
        self._whole = whole
        self._blocks: dict[int, bytes] = {}  # written, but not synced
        self._added = 0  # how many of them are new to the volume
        self._size: int | None = None  # set while something is held back
        self._cut: int | None = None  # to which size the file was cut since the sync

    # --- reading ---

    def xRead(self, amount: int, offset: int) -> bytes:
        if self._size is None:
            return content.read(self._volume, self._raw.inode(), offset, amount)
        index, skip = divmod(offset, BLOCK_BYTES)
        if skip + amount <= BLOCK_BYTES:
            return self._block(index)[skip : skip + min(amount, max(0, self._size - offset))]
        last = (offset + amount - 1) // BLOCK_BYTES
        joined = b"".join(self._block(at) for at in range(index, last + 1))
        return joined[skip : skip + min(amount, max(0, self._size - offset))]

    def _block(self, index: int) -> bytes:
        """A whole block, as it is with what is held back."""
        block = self._blocks.get(index)
        if block is not None:
            return block
        inode = self._raw.inode()
        if self._cut is not None:
            inode.size = min(inode.size, self._cut)
        return content.read(self._volume, inode, index * BLOCK_BYTES, BLOCK_BYTES).ljust(BLOCK_BYTES, b"\x00")

    def xFileSize(self) -> int:
        return self._raw.inode().size if self._size is None else self._size

    # --- writing ---

    def xWrite(self, data: bytes, offset: int) -> None:
        if not self._whole:
            self._raw.seek(offset)
            view = memoryview(data)
            while view:
                view = view[_raised_as_full(partial(self._raw.write, view)) :]
            return
        index, skip = divmod(offset, BLOCK_BYTES)
        at = 0
        while at < len(data):
            length = min(BLOCK_BYTES - skip, len(data) - at)
            block = data[at : at + length]
            if length < BLOCK_BYTES:
                before = self._block(index)
                block = before[:skip] + block + before[skip + length :]
            self._hold(index, block)
            at += length
            index += 1
            skip = 0
        self._size = max(self.xFileSize(), offset + len(data))

    def _hold(self, index: int, block: bytes) -> None:
        if index not in self._blocks:
            added = content.new_blocks(self._volume, self._raw.inode(), (index,))
            # What a cut frees is not counted yet: at worst the cut has to be synced before the space can be used.
            if self._added + added > self._volume.free_blocks:
                raise apsw.FullError("the filesystem is full")
            self._added += added
        self._blocks[index] = block

    def xTruncate(self, size: int) -> None:
        if not self._whole or self._size is None:
            # SQLite cuts a database off after its commit, whose pages say already how long it is.
            self._raw.truncate(size)
            return
        kept, rest = divmod(size, BLOCK_BYTES)
        tail = self._block(kept)[:rest].ljust(BLOCK_BYTES, b"\x00") if rest else None
        before = self.xFileSize()
        self._blocks = {index: block for index, block in self._blocks.items() if index < kept}
        self._added = content.new_blocks(self._volume, self._raw.inode(), self._blocks)
        if tail is not None:
            self._hold(kept, tail)
        if size < before:
            self._cut = size if self._cut is None else min(size, self._cut)
        self._size = size

    def xSync(self, flags: int) -> None:
        self.write_back()

    def write_back(self) -> None:
        """Put into the volume what is held back: in the open transaction, or in one of its own."""
        size, blocks = self._size, self._blocks
        if size is None:
            return

        def write() -> None:
            with self._raw.locked(), self._volume.writing():
                inode = self._raw.inode()
                if self._cut is not None and self._cut < inode.size:
                    content.truncate(self._volume, inode, self._cut)
                content.put_blocks(self._volume, inode, blocks, size)

        _raised_as_full(write)
        self.discard()

    def discard(self) -> None:
        """Forget what is held back."""
        self._blocks = {}
        self._added = 0
        self._size = self._cut = None

    # --- locks: one connection at a time ---

    def xLock(self, level: int) -> None:
        place = (id(self._volume), self._inode)
        if self._locks.setdefault(place, self) is not self:
            raise apsw.BusyError("another connection has the database")
        self._level = max(self._level, level)

    def xUnlock(self, level: int) -> None:
        if self._level >= _RESERVED > level:
            self.write_back()  # with synchronous=OFF nobody else says when the SQL transaction ends
        self._level = level
        if level == _UNLOCKED:
            self._release()

    def xCheckReservedLock(self) -> bool:
        owner = self._locks.get((id(self._volume), self._inode), self)
        return owner is not self and owner._level >= _RESERVED

    def _release(self) -> None:
        place = (id(self._volume), self._inode)
        if self._locks.get(place) is self:
            del self._locks[place]

    # --- the rest ---

    def xClose(self) -> None:
        try:
            if not self._raw.stale:
                self.write_back()
        finally:
            self._closed(self)
            self._release()
            self._raw.close()

    def xSectorSize(self) -> int:
        return BLOCK_BYTES

    def xDeviceCharacteristics(self) -> int:
        return _CHARACTERISTICS

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False


def _raised_as_full(call: Callable[[], T]) -> T:
    """Have SQLite see a lack of space as what it is: it then undoes the SQL transaction."""
    try:
        return call()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise apsw.FullError(str(error)) from error
        raise
