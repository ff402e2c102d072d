"""The files as an ``fsspec`` filesystem, so that pandas, Arrow, DuckDB and others work on them. Needs ``fsspec``.

Protocol ``pmap``: ``pandas.read_csv("pmap:///a.csv", storage_options={"files": self.fs})``, or hand over
``FilesSpec(self.fs)`` where a library takes a filesystem object.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from typing import Any, ClassVar

from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.paths import FilePath
from wire.errors import InvalidInput

PROTOCOL = "pmap"


class FilesSpec(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no type information
    """One :class:`FileSystem` in fsspec's terms. A write belongs to the transaction that is open when it happens."""

    protocol: ClassVar[str] = PROTOCOL
    cachable = False  # an instance belongs to its files, not to its arguments' text
    root_marker = "/"
    local_file = False

    def __init__(self, files: FileSystem | None = None, **storage_options: Any) -> None:
        """Raises :class:`InvalidInput` without ``files``."""
        if not isinstance(files, FileSystem):
            raise InvalidInput('the protocol "pmap" needs storage_options={"files": ...}: an enclave\'s or store\'s fs')
        super().__init__(**storage_options)
        self.files = files

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = str(path) if isinstance(path, FilePath) else stringify_path(path)
        for prefix in (PROTOCOL + "://", PROTOCOL + "::"):
            text = text.removeprefix(prefix)
        return "/" + "/".join(part for part in text.split("/") if part)

    @classmethod
    def _parent(cls, path: str) -> str:
        return str(cls._strip_protocol(path)).rpartition("/")[0] or "/"

    # --- looking ---

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Name, size and type, as fsspec has them, and ``mtime`` in seconds."""
        name = self._strip_protocol(path)
        return _info(name, self.files.stat(name), self.files.isdir(name))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory, or a file itself."""
        base = self._strip_protocol(path)
        if not self.files.isdir(base):
            found = [self.info(base)]
        else:
            prefix = base.rstrip("/") + "/"
            entries = list(self.files.scandir(base))
            found = [_info(prefix + entry.name, entry.stat(), entry.is_dir()) for entry in entries]
        return found if detail else [each["name"] for each in found]

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether something is there."""
        return self.files.exists(self._strip_protocol(path))

    def isfile(self, path: str) -> bool:
        """Whether a file is there."""
        return self.files.isfile(self._strip_protocol(path))

    def isdir(self, path: str) -> bool:
        """Whether a directory is there."""
        return self.files.isdir(self._strip_protocol(path))

    def modified(self, path: str) -> datetime:
        """When the content was written last."""
        return datetime.fromtimestamp(self.files.stat(self._strip_protocol(path)).st_mtime, UTC)

    def created(self, path: str) -> datetime:
        """When the inode was changed last: there is no time of creation."""
        return datetime.fromtimestamp(self.files.stat(self._strip_protocol(path)).st_ctime, UTC)

    # --- changing ---

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory. Raises ``OSError(EEXIST)``."""
        name = self._strip_protocol(path)
        if create_parents:
            self.files.makedirs(name)
        else:
            self.files.mkdir(name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        self.files.makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.files.rmdir(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self.files.unlink(self._strip_protocol(path))

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and directories if ``recursive``."""
        paths = path if isinstance(path, list) else [path]
        for each in self.expand_path(paths, recursive=recursive, maxdepth=maxdepth)[::-1]:
            if self.files.isdir(each):
                if each != "/":
                    self.files.rmdir(each)
            else:
                self.files.unlink(each)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file, or make a directory like the first."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.files.isdir(source):
            self.files.makedirs(target, exist_ok=True)
        else:
            self._make_parent(target)
            self.files.copyfile(source, target)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Rename where that can be, else copy and remove."""
        if isinstance(path1, str) and isinstance(path2, str) and maxdepth is None and not self.has_magic(path1):
            self.files.move(self._strip_protocol(path1), self._strip_protocol(path2))
        else:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file, or empty one (``truncate``), or stamp it."""
        name = self._strip_protocol(path)
        self._make_parent(name)
        if truncate:
            self.files.write_bytes(name, b"")
        else:
            self.files.touch(name)

    # --- content ---

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if mode[:1] in "wax":
            self._make_parent(path)
        elif "+" in mode and kwargs.get("create") and not self.files.exists(path):
            self.files.touch(path)
        return self.files.open(path, mode)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a whole file, in one transaction."""
        name = self._strip_protocol(path)
        if mode == "create" and self.files.exists(name):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._make_parent(name)
        self.files.write_bytes(name, value)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """A file's content, or the part from ``start`` to ``end``; negative ones count from its end."""
        data = self.files.read_bytes(self._strip_protocol(path)) if start is None and end is None else None
        if data is not None:
            return data
        with self.files.open(self._strip_protocol(path), "rb") as file:
            size = self.files.fstat(file).st_size
            first, last, _ = slice(start, end).indices(size)
            file.seek(first)
            return bytes(file.read(max(0, last - first)))

    def _make_parent(self, path: str) -> None:
        # As object stores have it, and as fsspec's users expect: directories come with their files.
        parent = self._parent(path)
        if not self.files.isdir(parent):
            self.files.makedirs(parent, exist_ok=True)


def _info(name: str, state: os.stat_result, is_directory: bool) -> dict[str, Any]:
    return {
        "name": name,
        "size": 0 if is_directory else state.st_size,
        "type": "directory" if is_directory else "file",
        "created": state.st_ctime,
        "mtime": state.st_mtime,
        "mode": state.st_mode,
        "ino": state.st_ino,
    }
