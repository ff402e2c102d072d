"""Open files: :class:`RawFile`, which stands under the standard library's buffered and text wrappers.

A raw file holds no data of its own. What the wrappers above it hold back is written before a transaction commits, so
that it belongs to the mail that wrote it. After an abort every file that was open is stale: it raises
``OSError(ESTALE)``, and what its wrappers held is gone (:mod:`pmap.filesystem.wrappers`).
"""

from __future__ import annotations

import errno
import gc
import io
import os
import threading
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

from pmap.filesystem import content
from pmap.filesystem.layout import Inode
from pmap.filesystem.modes import Access
from pmap.filesystem.volume import Volume, os_error
from pmap.filesystem.wrappers import Wrappers
from wire.limits import MAX_FILE_BYTES


class _Late(NamedTuple):
    """A write that came while the garbage collector ran. ``offset`` None: at the end."""

    volume: Volume
    inode: int
    offset: int | None
    data: bytes


class OpenFiles:
    """All open files of one filesystem: its lock, its generation, and the wrappers that may hold data back."""

    def __init__(self) -> None:
        self.lock: Final = threading.RLock()
        self.generation = 0
        """Goes up with every abort; a file of another generation is stale."""
        self.wrappers: Final = Wrappers()
        self._late: list[_Late] = []

    def settle(self) -> None:
        """Write everything that wrappers hold back. Raises what the writes raise."""
        self.wrappers.flush()
        self.write_late()

    def forget(self) -> None:
        """After an abort: every open file is stale from here on."""
        self.generation += 1
        self._late.clear()
        self.wrappers.make_stale()

    def postpone(self, late: _Late) -> None:
        """Keep a write for :meth:`write_late`."""
        self._late.append(late)

    def write_late(self) -> None:
        """Do the writes that came while the garbage collector ran."""
        while self._late:
            late = self._late.pop(0)
            data = memoryview(late.data)
            while data:
                with self.lock, late.volume.writing():
                    try:
                        inode = late.volume.inode(late.inode)
                    except KeyError:  # unlinked, and that was its last handle
                        break
                    offset = inode.size if late.offset is None else late.offset + len(late.data) - len(data)
                    data = data[content.write(late.volume, inode, offset, data) :]


class RawFile(io.RawIOBase):
    """An open file without a buffer. Made by :meth:`pmap.filesystem.FileSystem.open`."""

    def __init__(self, files: OpenFiles, volume: Volume, inode: int, access: Access, name: str) -> None:
        self._files = files
        self._volume = volume
        self._inode = inode
        self._access = access
        self._generation = files.generation
        self._position = 0
        self.name = name
        self.mode = access.raw_mode
        volume.opened[inode] = volume.opened.get(inode, 0) + 1

    # --- state ---

    def readable(self) -> bool:
        self._check_open()
        return self._access.readable

    def writable(self) -> bool:
        self._check_open()
        return self._access.writable

    def seekable(self) -> bool:
        self._check_open()
        return True

    def inode(self) -> Inode:
        """The file's inode as it is now. Raises ``OSError(ESTALE)``."""
        self._check_open()
        if self.stale:
            raise os_error(errno.ESTALE, self.name)
        return self._volume.inode(self._inode)

    @property
    def stale(self) -> bool:
        """Whether a transaction was undone since the file was opened."""
        return self._generation != self._files.generation

    def locked(self) -> AbstractContextManager[object]:
        """The filesystem's lock, under which it is changed."""
        return self._files.lock

    @property
    def volume(self) -> Volume:
        """The volume that the file is on."""
        return self._volume

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def close(self) -> None:
        """Close the file; again is fine."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            if not self.stale:
                # Only counted here, because this may run inside the garbage collector: an unlinked file's content
                # goes with the next write.
                opened, inode = self._volume.opened, self._inode
                opened[inode] -= 1
                if not opened[inode]:
                    del opened[inode]

    # --- reading ---

    def _reading(self) -> Inode:
        inode = self.inode()
        if not self._access.readable:
            raise io.UnsupportedOperation("File not open for reading")
        return inode

    def readinto(self, buffer: Any) -> int:
        inode = self._reading()
        done = content.read_into(self._volume, inode, self._position, memoryview(buffer).cast("B"))
        self._position += done
        return done

    def read(self, size: int | None = -1) -> bytes:
        inode = self._reading()
        if size is None or size < 0:
            size = MAX_FILE_BYTES
        data = content.read(self._volume, inode, self._position, size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    # --- writing ---

    def _check_writable(self) -> None:
        self._check_open()
        if not self._access.writable:
            raise io.UnsupportedOperation("File not open for writing")
        if self.stale:
            raise os_error(errno.ESTALE, self.name)

    def write(self, data: Any) -> int:
        """Write at the position, or at the end in append mode; returns how many bytes were written.

        Raises ``OSError``: ENOSPC, EFBIG, EDQUOT (the transaction is too large), ESTALE, EROFS (no transaction).
        """
        self._check_writable()
        view = memoryview(data).cast("B")
        volume, append = self._volume, self._access.append
        if _collector.thread == threading.get_ident():
            # A finalizer may run in the middle of any operation, also one of the entries'.
            self._files.postpone(_Late(volume, self._inode, None if append else self._position, bytes(view)))
            self._position += len(view)
            return len(view)
        with self._files.lock, volume.writing():
            inode = volume.inode(self._inode)
            offset = inode.size if append else self._position
            done = content.write(volume, inode, offset, view)
        self._position = offset + done
        return done

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size, by default to the position; returns it. Raises ``OSError`` as :meth:`write`."""
        self._check_writable()
        size = self._position if size is None else size
        if size < 0:
            raise os_error(errno.EINVAL)
        with self._files.lock, self._volume.writing():
            content.truncate(self._volume, self._volume.inode(self._inode), size)
        return size

    # --- the position ---

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._check_open()
            position = offset
        elif whence == os.SEEK_CUR:
            self._check_open()
            position = self._position + offset
        elif whence == os.SEEK_END:
            position = self.inode().size + offset
        else:
            raise os_error(errno.EINVAL)
        if not 0 <= position <= MAX_FILE_BYTES:
            raise os_error(errno.EINVAL)
        self._position = position
        return position

    def tell(self) -> int:
        self._check_open()
        return self._position


class _Collector:
    """In which thread the cyclic garbage collector is at work, if it is."""

    thread: int | None = None

    def __call__(self, phase: str, _: object) -> None:
        self.thread = threading.get_ident() if phase == "start" else None


_collector = _Collector()
gc.callbacks.append(_collector)
