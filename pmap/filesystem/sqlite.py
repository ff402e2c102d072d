"""SQL inside the enclave: SQLite databases as files of a :class:`FileSystem`. Needs the optional package ``apsw``.

The journal is kept in memory and the lock is exclusive: a commit in SQL is one write of the file in one piece, and the
mail's own commit makes it durable. An SQL transaction ends in the mail that began it; what an aborted mail did in SQL
is undone, and its connections are closed with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import apsw

from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.modes import parse_mode
from pmap.filesystem.mounts import AnyPath, path_text
from pmap.filesystem.sqlite_file import DatabaseFile, Locks
from wire.errors import InvalidInput

_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    # Pages are written when the SQL transaction commits, never before: nothing half done leaves SQLite's cache.
    "PRAGMA cache_spill = OFF",
)
_CREATE = apsw.SQLITE_OPEN_CREATE
_MAIN = apsw.SQLITE_OPEN_MAIN_DB
_READ_WRITE = parse_mode("r+b")
_OR_CREATE = replace(_READ_WRITE, create=True)


def connect(files: FileSystem, path: AnyPath) -> apsw.Connection:
    """The connection to a database, made if it is not there; the same one at each call while it is open.

    In an enclave call it in each mail: a mail that was undone has closed the connection. What ``apsw`` raises comes
    through: :class:`apsw.FullError` where a file would raise ENOSPC, :class:`apsw.BusyError` for a second connection.
    """
    databases = next((each for each in files.attached if isinstance(each, Databases)), None)
    if databases is None:
        databases = Databases(files)
        files.attached.append(databases)
    return databases.connect(path_text(path))


class Databases:
    """The connections of one filesystem, and the VFS under them. A :class:`pmap.filesystem.calls.Attachment`."""

    def __init__(self, files: FileSystem) -> None:
        self._vfs = FilesVFS(files)
        self._connections: dict[str, apsw.Connection] = {}

    def connect(self, path: str) -> apsw.Connection:
        """See :func:`connect`."""
        full = self._vfs.xFullPathname(path)
        connection = self._connections.get(full)
        if connection is not None and _is_open(connection):
            return connection
        connection = apsw.Connection(full, vfs=self._vfs.name)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        self._connections[full] = connection
        return connection

    def settle(self) -> None:
        """Raises :class:`InvalidInput` if an SQL transaction is open: it would go on in another mail."""
        for path, connection in self._connections.items():
            if _is_open(connection) and connection.in_transaction:
                raise InvalidInput(f"an SQL transaction on {path} is still open: commit it or roll it back")
        self._vfs.write_back()

    def discard(self) -> None:
        """Close all connections: what they remember was undone."""
        self._vfs.discard()
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close(True)


class FilesVFS(apsw.VFS):
    """SQLite's door to one filesystem. Everything but files (time, randomness) comes from SQLite's default."""

    def __init__(self, files: FileSystem) -> None:
        self.name = f"pmap-{id(files):x}"
        self._files = files
        self._locks: Locks = {}
        self._open: set[DatabaseFile] = set()
        super().__init__(self.name, base="")

    def write_back(self) -> None:
        """Write what open database files hold back."""
        for file in self._open:
            file.write_back()

    def discard(self) -> None:
        """Forget what open database files hold back, and their locks."""
        for file in self._open:
            file.discard()
        self._open.clear()
        self._locks.clear()

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        if name is None:
            raise apsw.CantOpenError("temporary files belong in memory: PRAGMA temp_store = MEMORY")
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        try:
            raw = self._files.open_raw(path, _OR_CREATE if flags[0] & _CREATE else _READ_WRITE)
        except OSError as error:
            raise apsw.CantOpenError(str(error)) from error
        file = DatabaseFile(raw, self._locks, whole=bool(flags[0] & _MAIN), closed=self._open.discard)
        self._open.add(file)
        flags[1] = flags[0]
        return file

    def xAccess(self, pathname: str, flags: int) -> bool:
        return self._files.exists(pathname)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self._files.exists(filename):
            self._files.unlink(filename)

    def xFullPathname(self, name: str) -> str:
        return "/" + "/".join(part for part in name.split("/") if part and part != ".")


def _is_open(connection: apsw.Connection) -> bool:
    try:
        connection.total_changes()
    except apsw.ConnectionClosedError:
        return False
    return True
