"""Mounts: from a path to the volume, directory and name that it means.

With both volumes on, the persistent one stands at ``/`` and the one in memory at ``/tmp``; one alone stands at ``/``.
There are no links and no working directory: a relative path starts at ``/``.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from pmap.filesystem.directories import Child, check_name, children, lookup
from pmap.filesystem.layout import ROOT, Inode
from pmap.filesystem.paths import FilePath
from pmap.filesystem.volume import DIRECTORY_MODE, Volume, os_error
from wire.limits import MAX_PATH_BYTES

MEMORY_MOUNT: Final = b"tmp"

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes] | FilePath
"""What names a file: text, UTF-8 bytes, or a path object."""


@dataclass(slots=True)
class Place:
    """Where a path leads.

    ``directory`` and ``name`` say which directory entry it is; ``name`` is empty for what cannot be renamed or removed:
    a volume's root. ``inode`` is None if the name is free. ``trail`` are the inode numbers of the directories above, on
    the same volume. ``as_directory``: the path ends like that of a directory (``a/``, ``a/.``).
    """

    volume: Volume
    directory: int
    name: bytes
    inode: Inode | None
    trail: list[int]
    path: str
    as_directory: bool

    def existing(self) -> Inode:
        """The inode. Raises ``OSError(ENOENT)`` if there is none."""
        if self.inode is None:
            raise os_error(errno.ENOENT, self.path)
        return self.inode

    def existing_directory(self) -> Inode:
        """The directory. Raises ``OSError``: ENOENT, ENOTDIR."""
        inode = self.existing()
        if not inode.is_directory:
            raise os_error(errno.ENOTDIR, self.path)
        return inode

    def check_named(self) -> None:
        """Raises ``OSError(EBUSY)`` for a volume's root."""
        if not self.name:
            raise os_error(errno.EBUSY, self.path)


def path_text(path: AnyPath) -> str:
    """A path as text. Bytes that are not UTF-8 become surrogate escapes."""
    if isinstance(path, FilePath):
        return str(path)
    text = os.fspath(path)
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


class Mounts:
    """The volume at ``/``, and perhaps one more at ``/tmp``."""

    def __init__(self, root: Volume, memory: Volume | None = None) -> None:
        self.root = root
        self.memory = memory
        self.volumes = (root,) if memory is None else (root, memory)

    def find(self, path: AnyPath) -> Place:
        """Walk a path.

        Raises:
            OSError: ENOENT for a missing directory on the way (a missing last name is a place), ENOTDIR for a file
                in a directory's place, ENAMETOOLONG.
            ValueError: the path has a NUL, or characters that cannot be encoded.
            TypeError: no path at all.
        """
        text = path_text(path)
        if "\0" in text:
            raise ValueError("embedded null byte")
        encoded = text.encode("utf-8", "surrogateescape")
        if not encoded:
            raise os_error(errno.ENOENT, text)
        if len(encoded) >= MAX_PATH_BYTES:
            raise os_error(errno.ENAMETOOLONG, text)
        parts = encoded.split(b"/")
        return self._walk([part for part in parts if part and part != b"."], text, parts[-1] in (b"", b"."))

    def _walk(self, parts: list[bytes], text: str, as_directory: bool) -> Place:
        volume, inode, name = self.root, self.root.inode(ROOT), b""
        above: list[tuple[Volume, Inode, bytes]] = []
        for at, part in enumerate(parts):
            if not inode.is_directory:
                raise os_error(errno.ENOTDIR, text)
            if part == b"..":
                if above:
                    volume, inode, name = above.pop()
                continue
            check_name(part, text)
            above.append((volume, inode, name))
            if self.memory is not None and part == MEMORY_MOUNT and volume is self.root and inode.number == ROOT:
                volume, inode, name = self.memory, self.memory.inode(ROOT), b""
                continue
            child = lookup(volume, inode.number, part)
            if child is None:
                if at + 1 < len(parts):
                    raise os_error(errno.ENOENT, text)
                trail = [each.number for where, each, _ in above if where is volume]
                return Place(volume, inode.number, part, None, trail, text, as_directory)
            inode, name = child, part
        if as_directory and not inode.is_directory:
            raise os_error(errno.ENOTDIR, text)
        trail = [each.number for where, each, _ in above if where is volume]
        return Place(volume, trail[-1] if name else 0, name, inode, trail, text, as_directory)

    def list(self, place: Place) -> list[Child]:
        """What is in a directory, the mount point included. Raises ``OSError``: ENOENT, ENOTDIR."""
        directory = place.existing_directory().number
        found = list(children(place.volume, directory))
        if self.memory is not None and place.volume is self.root and directory == ROOT:
            found = [child for child in found if child.name != MEMORY_MOUNT]
            found.append(Child(MEMORY_MOUNT, ROOT, DIRECTORY_MODE & 0o170000))
            found.sort()
        return found
