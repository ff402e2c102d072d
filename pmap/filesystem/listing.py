"""What the calls of ``os`` return: stat results and directory entries."""

from __future__ import annotations

import os
import stat as stat_bits
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from pmap.filesystem.directories import Child
from pmap.filesystem.layout import Inode
from wire.limits import BLOCK_BYTES

_SECTOR_BYTES: Final = 512  # the unit of st_blocks
_NANOSECONDS: Final = 1_000_000_000


def stat_result(inode: Inode, device: int) -> os.stat_result:
    """A file's state, as ``os.stat`` gives it. There is no access time; the modification time stands in for it."""
    mtime, ctime = inode.mtime, inode.ctime
    fields: dict[str, Any] = {
        "st_atime": mtime / _NANOSECONDS,
        "st_mtime": mtime / _NANOSECONDS,
        "st_ctime": ctime / _NANOSECONDS,
        "st_atime_ns": mtime,
        "st_mtime_ns": mtime,
        "st_ctime_ns": ctime,
        "st_blksize": BLOCK_BYTES,
        "st_blocks": inode.blocks * (BLOCK_BYTES // _SECTOR_BYTES),
    }
    seconds = (mtime // _NANOSECONDS, mtime // _NANOSECONDS, ctime // _NANOSECONDS)
    links = 2 if inode.is_directory else inode.links
    return os.stat_result((inode.mode, inode.number, device, links, 0, 0, inode.size, *seconds), fields)


class DirEntry:
    """One entry of :meth:`FileSystem.scandir`, as ``os.scandir`` gives them."""

    __slots__ = ("_child", "_stat", "name", "path")

    def __init__(self, name: str, path: str, child: Child, stat: Callable[[str], os.stat_result]) -> None:
        self.name = name
        self.path = path
        self._child = child
        self._stat = stat

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """The inode number."""
        return self._child.inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return stat_bits.S_ISDIR(self._child.kind)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file."""
        return stat_bits.S_ISREG(self._child.kind)

    def is_symlink(self) -> bool:
        """There are no symbolic links here."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its state now. Raises ``OSError(ENOENT)`` if it is gone."""
        return self._stat(self.path)


class ScandirIterator:
    """An iterator over directory entries that can be closed, as ``os.scandir`` returns it."""

    def __init__(self, entries: list[DirEntry]) -> None:
        self._entries: Iterator[DirEntry] = iter(entries)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def close(self) -> None:
        """Give out no more entries."""
        self._entries = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
