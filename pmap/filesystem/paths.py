"""Path objects of a filesystem, with pathlib's feel.

A :class:`FilePath` belongs to its filesystem. It is deliberately no ``os.PathLike``: handed to the built-in ``open``
by mistake, it must not write an enclave's secrets to the host's disk.
"""

from __future__ import annotations

import fnmatch
import stat as stat_bits
from collections.abc import Iterator
from functools import total_ordering
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from pmap.filesystem.filesystem import FileSystem


@total_ordering
class FilePath:
    """A path on one filesystem: the parts are pathlib's, the calls are the filesystem's."""

    __slots__ = ("_filesystem", "_pure")

    def __init__(self, filesystem: FileSystem, path: str | PurePosixPath = "/") -> None:
        self._filesystem = filesystem
        self._pure = PurePosixPath(path)

    def __str__(self) -> str:
        return str(self._pure)

    def __repr__(self) -> str:
        return f"FilePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return self._filesystem is other._filesystem and self._pure == other._pure

    def __lt__(self, other: FilePath) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return self._pure < other._pure

    def __hash__(self) -> int:
        return hash(self._pure)

    def __truediv__(self, other: str | PurePosixPath) -> FilePath:
        return FilePath(self._filesystem, self._pure / other)

    # --- the path itself ---

    @property
    def pure(self) -> PurePosixPath:
        """The path as pathlib has it."""
        return self._pure

    @property
    def name(self) -> str:
        """The last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The last part's suffix, with its dot."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts."""
        return self._pure.parts

    @property
    def parent(self) -> FilePath:
        """The path without its last part."""
        return FilePath(self._filesystem, self._pure.parent)

    def joinpath(self, *others: str) -> FilePath:
        """As ``/``, with any number of parts."""
        return FilePath(self._filesystem, self._pure.joinpath(*others))

    def with_name(self, name: str) -> FilePath:
        """With another last part."""
        return FilePath(self._filesystem, self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> FilePath:
        """With another suffix."""
        return FilePath(self._filesystem, self._pure.with_suffix(suffix))

    def relative_to(self, other: FilePath | str) -> PurePosixPath:
        """The part below ``other``. Raises :class:`ValueError` if it is not below it."""
        return self._pure.relative_to(str(other))

    # --- what is there ---

    def stat(self) -> os.stat_result:
        """As :meth:`FileSystem.stat`."""
        return self._filesystem.stat(self)

    def exists(self) -> bool:
        """Whether something is there."""
        return self._filesystem.exists(self)

    def is_file(self) -> bool:
        """Whether a file is there."""
        return self._filesystem.isfile(self)

    def is_dir(self) -> bool:
        """Whether a directory is there."""
        return self._filesystem.isdir(self)

    def iterdir(self) -> Iterator[FilePath]:
        """What is in a directory."""
        return (self / name for name in self._filesystem.listdir(self))

    def glob(self, pattern: str) -> Iterator[FilePath]:
        """What lies below and matches; ``**`` stands for any number of directories."""
        parts = PurePosixPath(pattern).parts
        if not parts or parts[0] == "/":
            raise ValueError(f"unacceptable pattern: {pattern!r}")
        found = dict.fromkeys(self._glob(parts))  # a path can match in several ways
        return iter(found)

    def rglob(self, pattern: str) -> Iterator[FilePath]:
        """As :meth:`glob` with ``**/`` before the pattern."""
        return self.glob(f"**/{pattern}")

    def _glob(self, parts: tuple[str, ...]) -> Iterator[FilePath]:
        if not parts:
            yield self
            return
        if not self.is_dir():
            return
        first, rest = parts[0], parts[1:]
        if first == "**":
            yield from self._glob(rest)
        for entry in self._filesystem.scandir(self):
            below = self / entry.name
            if first == "**":
                if entry.is_dir():
                    yield from below._glob(parts)
            elif fnmatch.fnmatchcase(entry.name, first):
                yield from below._glob(rest)

    # --- content ---

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As :meth:`FileSystem.open`."""
        return self._filesystem.open(self, mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """All of a file."""
        return self._filesystem.read_bytes(self)

    def write_bytes(self, data: bytes) -> int:
        """Replace a file's content, in one transaction."""
        return self._filesystem.write_bytes(self, data)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """All of a file, as text."""
        with self.open("r", encoding=encoding, errors=errors) as file:
            return str(file.read())

    def write_text(self, text: str, encoding: str = "utf-8", errors: str = "strict") -> int:
        """Replace a file's content, in one transaction; returns the number of characters."""
        self.write_bytes(text.encode(encoding, errors))
        return len(text)

    # --- changes ---

    def touch(self, exist_ok: bool = True) -> None:
        """Make an empty file, or stamp one with the present time."""
        self._filesystem.touch(self, exist_ok=exist_ok)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""
        if parents:
            self._filesystem.makedirs(self, mode, exist_ok=exist_ok)
            return
        try:
            self._filesystem.mkdir(self, mode)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def rename(self, target: FilePath | str) -> FilePath:
        """As :meth:`FileSystem.rename`; returns the new path."""
        self._filesystem.rename(self, target)
        return FilePath(self._filesystem, str(target))

    def replace(self, target: FilePath | str) -> FilePath:
        """The same as :meth:`rename`."""
        return self.rename(target)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            self._filesystem.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Remove an empty directory."""
        self._filesystem.rmdir(self)

    def chmod(self, mode: int) -> None:
        """Set the permission bits, which nothing here enforces."""
        self._filesystem.chmod(self, stat_bits.S_IMODE(mode))
