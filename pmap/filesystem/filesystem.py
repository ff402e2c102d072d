"""The filesystem that an enclave's author uses: the single calls, and what ``os``, ``shutil`` and pathlib make of them.

Each change belongs to the open transaction, together with the map's: it commits with the mail or not at all. Without
one, where the caller allows that (embedded stores), each call is a transaction of its own.

May be used by several threads at once, but not at the same time as the map.
"""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Iterator

from pmap.filesystem.calls import Calls
from pmap.filesystem.modes import parse_mode
from pmap.filesystem.mounts import AnyPath, path_text
from pmap.filesystem.paths import FilePath
from pmap.filesystem.volume import os_error
from wire.limits import MAX_RAW_WRITE_BYTES

_CREATE = parse_mode("wb")
_READ = parse_mode("rb")


class FileSystem(Calls):
    """Files, as Python programs know them. Paths are text, bytes or path objects; a relative one starts at ``/``.

    Every method raises the subclass of :class:`OSError` that the function of the same name raises; besides,
    ``OSError(EDQUOT)`` if the transaction writes too much and ``OSError(EROFS)`` outside a transaction in an enclave.
    """

    def path(self, *parts: str) -> FilePath:
        """A path object."""
        return FilePath(self, "/").joinpath(*parts)

    # --- looking ---

    def exists(self, path: AnyPath) -> bool:
        """As ``os.path.exists``."""
        return self._mode(path) != 0

    def isfile(self, path: AnyPath) -> bool:
        """As ``os.path.isfile``."""
        return stat_bits.S_ISREG(self._mode(path))

    def isdir(self, path: AnyPath) -> bool:
        """As ``os.path.isdir``."""
        return stat_bits.S_ISDIR(self._mode(path))

    def _mode(self, path: AnyPath) -> int:
        try:
            return self._mounts.find(path).existing().mode
        except (OSError, ValueError):
            return 0

    def walk(self, top: AnyPath = "/", topdown: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
        """As ``os.walk``."""
        base = path_text(top)
        try:
            entries = list(self.scandir(top))
        except OSError:
            return
        below = [entry.name for entry in entries if entry.is_dir()]
        files = [entry.name for entry in entries if not entry.is_dir()]
        if topdown:
            yield base, below, files
        for name in below:
            yield from self.walk(base.rstrip("/") + "/" + name, topdown)
        if not topdown:
            yield base, below, files

    # --- whole files ---

    def read_bytes(self, path: AnyPath) -> bytes:
        """All of a file."""
        with self.open_raw(path, _READ) as raw:
            return raw.read()

    def write_bytes(self, path: AnyPath, data: bytes | bytearray | memoryview) -> int:
        """Replace a file's content, in one transaction; returns the number of bytes."""
        view = memoryview(data).cast("B")
        with self.files.lock, self._find(path).volume.writing(), self.open_raw(path, _CREATE) as raw:
            done = 0
            while done < len(view):
                done += raw.write(view[done:])
            return done

    def copyfile(self, source: AnyPath, target: AnyPath) -> None:
        """As ``shutil.copyfile``; also between volumes."""
        old, new = self._find(source), self._find(target)
        same = old.inode is not None and new.inode is not None and old.inode.number == new.inode.number
        if same and old.volume is new.volume:
            raise os_error(errno.EINVAL, old.path, new.path)
        with self.open_raw(source, _READ) as reader, self.open_raw(target, _CREATE) as writer:
            while piece := reader.read(MAX_RAW_WRITE_BYTES):
                view = memoryview(piece)
                while view:
                    view = view[writer.write(view) :]

    def touch(self, path: AnyPath, *, exist_ok: bool = True) -> None:
        """Make an empty file, or stamp one with the present time. Raises ``OSError(EEXIST)`` unless ``exist_ok``."""
        with self.files.lock:
            if exist_ok and self._find(path).inode is not None:
                self.utime(path)
            else:
                self.open_raw(path, parse_mode("xb")).close()

    # --- whole trees ---

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """As ``os.makedirs``."""
        parts = [part for part in path_text(path).split("/") if part and part != "."]
        for at in range(1, len(parts)):
            try:
                self.mkdir("/" + "/".join(parts[:at]))
            except FileExistsError:
                continue  # a file there makes the next one fail with ENOTDIR
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not exist_ok or not self.isdir(path):
                raise

    def rmtree(self, path: AnyPath) -> None:
        """As ``shutil.rmtree``."""
        self._find(path).existing_directory()
        for base, below, files in self.walk(path, topdown=False):
            for name in files:
                self.unlink(base.rstrip("/") + "/" + name)
            for name in below:
                self.rmdir(base.rstrip("/") + "/" + name)
        self.rmdir(path)

    def move(self, source: AnyPath, target: AnyPath) -> None:
        """As ``shutil.move``: into ``target`` if that is a directory; by copying and removing between volumes."""
        old, new = path_text(source).rstrip("/"), path_text(target)
        if self.isdir(new):
            new = new.rstrip("/") + "/" + old.rpartition("/")[2]
            if self.exists(new):
                raise os_error(errno.EEXIST, new)
        try:
            self.rename(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy_tree(old, new)
            if self.isdir(old):
                self.rmtree(old)
            else:
                self.unlink(old)

    def _copy_tree(self, source: str, target: str) -> None:
        state = self.stat(source)
        if stat_bits.S_ISDIR(state.st_mode):
            self.mkdir(target)
            for name in self.listdir(source):
                self._copy_tree(f"{source}/{name}", f"{target}/{name}")
        else:
            self.copyfile(source, target)
        self.chmod(target, state.st_mode)
        self.utime(target, ns=(state.st_mtime_ns, state.st_mtime_ns))

    # --- the volume at / ---

    def grow(self, size: int) -> None:
        """Make the volume at ``/`` larger, to ``size`` bytes. Raises :class:`wire.errors.InvalidInput`."""
        with self.files.lock:
            self._mounts.root.grow(size)

    @property
    def size(self) -> int:
        """The size of the volume at ``/``, in bytes."""
        return self._mounts.root.size
