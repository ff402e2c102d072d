"""An embedded store's files as a FUSE mount: for people who hold the key and want to look with ordinary tools.

Needs the optional package ``mfusepy`` and the system's ``fuse3``. Whoever can read the mount point reads the files: a
mount is for development stores, not for data that is to be kept from this machine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from itertools import count
from pathlib import Path
from typing import Any, Final

from pmap.filesystem.files import RawFile
from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.modes import parse_mode
from wire.errors import PmapError

_FUSE3: Final = find_library("fuse3")
if _FUSE3 is not None:
    # Where version 2 is installed too, mfusepy takes that; its writes come in pages, and each write is a commit.
    os.environ.setdefault("FUSE_LIBRARY_PATH", _FUSE3)
import mfusepy  # noqa: E402 - the variable is read while it is imported

_ATTRIBUTES = ("st_mode", "st_ino", "st_nlink", "st_size", "st_blocks")
_TIMES = ("st_atime", "st_mtime", "st_ctime")
_FILESYSTEM = (
    "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax",
)  # fmt: skip


class FilesOperations(mfusepy.Operations):  # type: ignore[misc]  # no type information
    """FUSE's requests, carried out on a :class:`FileSystem`. One request at a time."""

    use_ns = True  # times are integers, in nanoseconds

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._open: dict[int, RawFile] = {}
        self._handles = count(1)
        self._owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}

    # --- looking ---

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with _as_os_error():
            raw = self._open.get(fh or 0)
            state = self._files.stat(path) if raw is None else self._files.fstat(raw)  # type: ignore[arg-type]
            times = {name: getattr(state, name + "_ns") for name in _TIMES}
            return {name: getattr(state, name) for name in _ATTRIBUTES} | times | self._owner

    def readdir(self, path: str, fh: int) -> list[str]:
        with _as_os_error():
            return [".", "..", *self._files.listdir(path)]

    def statfs(self, path: str) -> dict[str, int]:
        with _as_os_error():
            state = self._files.statvfs(path)
            return {name: getattr(state, name) for name in _FILESYSTEM}

    # --- files ---

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        with _as_os_error():
            handle = self._opened(path, "w+b")
            self._files.chmod(path, mode)
            return handle

    def open(self, path: str, flags: int) -> int:
        # Cutting off comes as a truncate of its own, and appends come with their offsets.
        with _as_os_error():
            return self._opened(path, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "r+b")

    def _opened(self, path: str, mode: str) -> int:
        handle = next(self._handles)
        self._open[handle] = self._files.open_raw(path, parse_mode(mode))
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with _as_os_error():
            raw = self._open[fh]
            raw.seek(offset)
            return raw.read(size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with _as_os_error():
            raw = self._open[fh]
            raw.seek(offset)
            return raw.write(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with _as_os_error():
            raw = self._open.get(fh or 0)
            if raw is None:
                self._files.truncate(path, length)
            else:
                raw.truncate(length)
            return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with _as_os_error():
            self._files.fsync(self._open[fh])  # type: ignore[arg-type]
            return 0

    def release(self, path: str, fh: int) -> int:
        with _as_os_error():
            self._open.pop(fh).close()
            return 0

    # --- names ---

    def mkdir(self, path: str, mode: int) -> int:
        return _done(lambda: self._files.mkdir(path, mode))

    def rmdir(self, path: str) -> int:
        return _done(lambda: self._files.rmdir(path))

    def unlink(self, path: str) -> int:
        return _done(lambda: self._files.unlink(path))

    def rename(self, old: str, new: str) -> int:
        return _done(lambda: self._files.rename(old, new))

    def chmod(self, path: str, mode: int) -> int:
        return _done(lambda: self._files.chmod(path, mode))

    def chown(self, path: str, uid: int, gid: int) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # every file is the mounting user's

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return _done(lambda: self._files.utime(path, ns=times))


def mount(files: FileSystem, mount_point: Path) -> None:
    """Show ``files`` at an empty directory, until it is unmounted (``fusermount3 -u``) or interrupted.

    Raises :class:`RuntimeError` if FUSE refuses.
    """
    mfusepy.FUSE(
        FilesOperations(files), str(mount_point), foreground=True, nothreads=True, fsname="pmap", subtype="pmap"
    )


def _done(call: Callable[[], object]) -> int:
    with _as_os_error():
        call()
    return 0


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except PmapError as error:
        raise OSError(errno.EIO, str(error)) from error
    except (ValueError, KeyError) as error:
        raise OSError(errno.EINVAL, str(error)) from error
