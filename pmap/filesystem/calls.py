"""The calls of ``os`` and the built-in ``open``, over the mounted volumes, with the errors of the originals."""

from __future__ import annotations

import errno
import io
import os
import stat as stat_bits
from collections.abc import Callable
from typing import IO, Any, Final, Protocol

from pmap.filesystem import content, directories
from pmap.filesystem.files import OpenFiles, RawFile
from pmap.filesystem.layout import Inode
from pmap.filesystem.listing import DirEntry, ScandirIterator, stat_result
from pmap.filesystem.modes import Access, parse_mode
from pmap.filesystem.mounts import AnyPath, Mounts, Place, path_text
from pmap.filesystem.volume import Volume, os_error
from pmap.filesystem.wrappers import BufferedRandom, BufferedReader, BufferedWriter, TextIOWrapper
from wire.limits import BLOCK_BYTES, KIB, MAX_NAME_BYTES

READ_BUFFER_BYTES: Final = 8 * KIB
RANDOM_BUFFER_BYTES: Final = 32 * KIB
WRITE_BUFFER_BYTES: Final = 30 * BLOCK_BYTES
"""Outside a transaction each buffer written is a commit; 30 blocks just fit into half of a record of 256 KiB."""

_UMASK: Final = 0o022
_NEW_FILE_MODE: Final = stat_bits.S_IFREG | 0o644


class Attachment(Protocol):
    """Something above the files that holds data back: a database connection."""

    def settle(self) -> None:
        """The transaction is about to commit: write everything, or raise."""
        ...

    def discard(self) -> None:
        """The transaction was undone: forget everything, and serve nothing any more."""
        ...


class Calls:
    """The single calls. Their changes belong to the open transaction; without one, each call is its own."""

    def __init__(self, mounts: Mounts, *, sync: Callable[[], None] | None = None) -> None:
        self._mounts = mounts
        self._sync = sync
        self.files: Final = OpenFiles()
        self.attached: Final[list[Attachment]] = []

    # --- transactions: pmap.entries.Participant ---

    def settle(self) -> None:
        """The transaction is about to commit: write what open files and databases hold back, or raise."""
        for attached in self.attached:
            attached.settle()
        self.files.settle()

    def committed(self) -> None:
        """The transaction was committed."""
        for volume in self._mounts.volumes:
            volume.follow_commit()

    def aborted(self) -> None:
        """The transaction was undone: every open file and database is stale."""
        self.files.forget()
        for volume in self._mounts.volumes:
            volume.follow_abort()
        for attached in self.attached:
            attached.discard()

    def close(self) -> None:
        """Write what files and databases hold back and let go of them: the end of the store's use."""
        try:
            for attached in self.attached:
                attached.settle()
            self.files.settle()
        finally:
            self.aborted()

    # --- opening ---

    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the built-in ``open`` does. Texts are UTF-8 unless ``encoding`` says otherwise."""
        access = parse_mode(mode)
        if not access.text and (encoding, errors, newline) != (None, None, None):
            raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
        if access.text and buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
        raw = self.open_raw(path, access)
        if buffering == 0:
            return raw  # type: ignore[return-value]  # an io.RawIOBase, as the built-in open returns a FileIO
        line_buffering = buffering == 1 and access.text
        size = buffering if buffering > 1 else 0
        buffer: BufferedReader | BufferedWriter | BufferedRandom
        if not access.writable:
            buffer = BufferedReader(raw, size or READ_BUFFER_BYTES)
        elif access.readable:
            buffer = BufferedRandom(raw, size or RANDOM_BUFFER_BYTES)
        else:
            buffer = BufferedWriter(raw, size or WRITE_BUFFER_BYTES)
        self.files.wrappers.add(buffer)
        if not access.text:
            return buffer
        text = TextIOWrapper(buffer, encoding or "utf-8", errors, newline, line_buffering)
        text.mode = mode  # type: ignore[misc]  # as the built-in open does
        self.files.wrappers.add(text)
        return text

    def open_raw(self, path: AnyPath, access: Access) -> RawFile:
        """Open a file without buffers. Raises ``OSError`` as :meth:`open`."""
        with self.files.lock:
            self.files.write_late()
            place = self._mounts.find(path)
            volume, inode = place.volume, place.inode
            if inode is None:
                if not access.create:
                    raise os_error(errno.ENOENT, place.path)
                if place.as_directory:
                    raise os_error(errno.EISDIR, place.path)
                with volume.writing():
                    inode = directories.add_new(volume, place.directory, place.name, _NEW_FILE_MODE)
            elif access.exclusive:
                raise os_error(errno.EEXIST, place.path)
            elif inode.is_directory:
                raise os_error(errno.EISDIR, place.path)
            elif access.truncate:
                with volume.writing():
                    content.truncate(volume, inode, 0)
            raw = RawFile(self.files, volume, inode.number, access, place.path)
            if access.append:
                raw.seek(0, os.SEEK_END)
            return raw

    def fsync(self, file: IO[Any]) -> None:
        """Write what ``file`` holds back, and everything that the disk refused earlier.

        In an enclave this makes the file's content visible to other handles; durable is all of a mail with its commit.
        """
        file.flush()
        if self._sync is not None:
            self._sync()

    # --- looking ---

    def stat(self, path: AnyPath) -> os.stat_result:
        """As ``os.stat``. ``st_dev`` tells the volumes apart."""
        place = self._find(path)
        return self._stat(place.volume, place.existing())

    lstat = stat

    def fstat(self, file: IO[Any]) -> os.stat_result:
        """As ``os.fstat``, of a file that was opened here. Raises ``OSError(ESTALE)``."""
        layer: Any = file
        while not isinstance(layer, RawFile):
            layer = layer.buffer if isinstance(layer, io.TextIOWrapper) else layer.raw
        return self._stat(layer.volume, layer.inode())

    def _stat(self, volume: Volume, inode: Inode) -> os.stat_result:
        return stat_result(inode, 1 + self._mounts.volumes.index(volume))

    def statvfs(self, path: AnyPath = "/") -> os.statvfs_result:
        """As ``os.statvfs``: blocks are of 4096 bytes."""
        usage = self._find(path).volume.usage
        blocks = (usage.blocks, usage.free_blocks, usage.free_blocks)
        inodes = (usage.inodes, usage.free_inodes, usage.free_inodes)
        return os.statvfs_result((BLOCK_BYTES, BLOCK_BYTES, *blocks, *inodes, 0, MAX_NAME_BYTES))

    def listdir(self, path: AnyPath = "/") -> list[str]:
        """As ``os.listdir``, in order of the names' bytes."""
        with self.files.lock:
            return [_text(child.name) for child in self._mounts.list(self._find(path))]

    def scandir(self, path: AnyPath = "/") -> ScandirIterator:
        """As ``os.scandir``, in order of the names' bytes; a snapshot."""
        with self.files.lock:
            prefix = path_text(path).rstrip("/") + "/"
            found = [(_text(child.name), child) for child in self._mounts.list(self._find(path))]
            return ScandirIterator([DirEntry(name, prefix + name, child, self.stat) for name, child in found])

    # --- changing ---

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """As ``os.mkdir``."""
        with self.files.lock:
            place = self._find(path)
            if place.inode is not None:
                raise os_error(errno.EEXIST, place.path)
            bits = stat_bits.S_IFDIR | (mode & 0o777 & ~_UMASK)
            with place.volume.writing():
                directories.add_new(place.volume, place.directory, place.name, bits)

    def unlink(self, path: AnyPath) -> None:
        """As ``os.unlink``; a file that is open lives on until it is closed."""
        with self.files.lock:
            place = self._find(path)
            inode = place.existing()
            if inode.is_directory:
                raise os_error(errno.EISDIR, place.path)
            with place.volume.writing():
                directories.remove(place.volume, place.directory, place.name, inode)

    remove = unlink

    def rmdir(self, path: AnyPath) -> None:
        """As ``os.rmdir``."""
        with self.files.lock:
            place = self._find(path)
            inode = place.existing_directory()
            place.check_named()
            if not directories.is_empty(place.volume, inode.number):
                raise os_error(errno.ENOTEMPTY, place.path)
            with place.volume.writing():
                directories.remove(place.volume, place.directory, place.name, inode)

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """As ``os.rename``: replaces a file or an empty directory. Raises ``OSError(EXDEV)`` between volumes."""
        with self.files.lock:
            old, new = self._find(source), self._find(target)
            code = _why_not_rename(old, new)
            if code:
                raise os_error(code, old.path, new.path)
            inode, volume = old.existing(), old.volume
            if new.inode is not None and new.inode.number == inode.number:
                return
            with volume.writing():
                if new.inode is not None:
                    directories.remove(volume, new.directory, new.name, new.inode)
                directories.move(volume, old.directory, old.name, inode, new.directory, new.name)

    replace = rename

    def truncate(self, path: AnyPath, size: int) -> None:
        """As ``os.truncate``."""
        with self.files.lock:
            place = self._find(path)
            inode = place.existing()
            if inode.is_directory:
                raise os_error(errno.EISDIR, place.path)
            if size < 0:
                raise os_error(errno.EINVAL, place.path)
            with place.volume.writing():
                content.truncate(place.volume, inode, size)

    def utime(
        self, path: AnyPath, times: tuple[float, float] | None = None, *, ns: tuple[int, int] | None = None
    ) -> None:
        """As ``os.utime``. The access time is ignored: there is none."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        with self.files.lock:
            place = self._find(path)
            inode = place.existing()
            now = place.volume.clock()
            inode.mtime = ns[1] if ns is not None else int(times[1] * 10**9) if times is not None else now
            inode.ctime = now
            with place.volume.writing():
                place.volume.save(inode)

    def chmod(self, path: AnyPath, mode: int) -> None:
        """As ``os.chmod``. Nothing here enforces the permission bits."""
        with self.files.lock:
            place = self._find(path)
            inode = place.existing()
            inode.mode = stat_bits.S_IFMT(inode.mode) | stat_bits.S_IMODE(mode)
            inode.ctime = place.volume.clock()
            with place.volume.writing():
                place.volume.save(inode)

    def link(self, source: AnyPath, target: AnyPath) -> None:
        """There are no links here: raises ``OSError(EPERM)``, as link(2) does on such filesystems."""
        raise os_error(errno.EPERM, path_text(source), path_text(target))

    symlink = link

    def _find(self, path: AnyPath) -> Place:
        self.files.write_late()
        return self._mounts.find(path)


def _why_not_rename(old: Place, new: Place) -> int:
    """The error code for a rename that cannot be; 0 if it can."""
    if old.volume is not new.volume:
        return errno.EXDEV
    inode, there = old.inode, new.inode
    if inode is None:
        return errno.ENOENT
    if not old.name or not new.name:
        return errno.EBUSY
    if inode.number in new.trail:
        return errno.EINVAL
    if there is None:
        return errno.ENOTDIR if new.as_directory and not inode.is_directory else 0
    if there.number == inode.number:
        return 0
    if inode.is_directory and not there.is_directory:
        return errno.ENOTDIR
    if there.is_directory and not inode.is_directory:
        return errno.EISDIR
    if there.is_directory and not directories.is_empty(new.volume, there.number):
        return errno.ENOTEMPTY
    return 0


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
