"""The folder of a store on disk: made once, and used by one process at a time.

::

    store/
    ├── data.mdb     the environment; appears complete, by a rename
    ├── journal      commits that LMDB does not have yet, unless the store was closed in order
    ├── lock.mdb     LMDB's own readers' table; worthless without a process
    ├── host.lock    ours: whoever holds a flock on it owns the store; names the owner for people
    └── creating/    a store in the making; left over from a crash, it is thrown away

LMDB itself lets several processes in, and a torn write of a *new* file's first two pages leaves it unopenable for
good. So the data file is made in ``creating/``, synced, and renamed into place under our lock. A folder that is there
already may be used if it is empty (a mounted volume, for one: nothing could be renamed over that).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wire.errors import InvalidInput, StoreFenced, StoreLocked, StoreMissing, StoreUnavailable

DATA_FILE: Final = "data.mdb"
_LOCK_FILE: Final = "host.lock"
_CREATING: Final = "creating"
_MAY_STAND_IN_A_NEW_STORE: Final = frozenset({_LOCK_FILE, _CREATING, "lock.mdb", "lost+found"})
_OWNER_NOTE_BYTES: Final = 512


class StoreFolder:
    """A folder whose lock this process holds until :meth:`release`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._note = os.pread(lock_fd, _OWNER_NOTE_BYTES, 0)
        self._lock_fd: int | None = lock_fd
        _held.add(self)

    @classmethod
    def claim(cls, path: Path, *, create: bool) -> StoreFolder:
        """Lock the folder of a store, after making it if ``create`` is set. There may be no data file in it yet.

        Raises:
            StoreMissing: there is no store and ``create`` is not set; nothing was made.
            StoreLocked: somebody else has it.
            InvalidInput: the path is a file, or a folder of other things, or no path.
            StoreUnavailable: the operating system refuses.
        """
        with _worded("use the store folder", path):
            _check_contents(path, create=create)
            return cls(path, _lock(path))

    @property
    def data_file(self) -> Path:
        """Where the environment's data is, or will be."""
        return self.path / DATA_FILE

    def make_data_file(self, build: Callable[[Path], None]) -> None:
        """Have ``build(folder)`` make a data file aside, then let it appear here, whole and durable.

        Raises :class:`StoreUnavailable`, and whatever ``build`` raises.
        """
        aside = self.path / _CREATING
        with _worded("create a store in", self.path):
            if aside.exists():
                shutil.rmtree(aside)
            try:
                aside.mkdir(mode=0o700)
                build(aside)
                sync(aside / DATA_FILE)
                os.rename(aside / DATA_FILE, self.data_file)
                sync(self.path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def check_owner(self) -> None:
        """For file systems whose locks do not work: whoever comes next leaves another name in the lock file.

        Raises :class:`StoreFenced`, :class:`StoreUnavailable`.
        """
        if self._lock_fd is None:
            return
        try:  # twice for each commit: as little as can be
            note = os.pread(self._lock_fd, _OWNER_NOTE_BYTES, 0)
        except OSError as error:
            raise StoreUnavailable(f"cannot read the lock file of {self.path}: {error.strerror}") from error
        if note != self._note:
            raise StoreFenced(f"the store {self.path} was taken over by another process: is its lock file respected?")

    def release(self) -> None:
        """Let others have the folder."""
        if self._lock_fd is not None:
            # Unlocked by name, not only closed: a child forked meanwhile may still hold the same open file.
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close the lock file without unlocking: what a forked child does, so that it does not outlive the owner."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def sync(path: Path) -> None:
    """Flush a file or a folder to the medium. Raises :class:`OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_held: weakref.WeakSet[StoreFolder] = weakref.WeakSet()


def _forget_all() -> None:
    for folder in list(_held):
        folder.forget()


os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def _worded(doing: str, path: Path) -> Iterator[None]:
    """Turn what the operating system says into :class:`StoreUnavailable` with a sentence for people."""
    try:
        yield
    except OSError as error:
        reason = f"cannot {doing} {path}: {error.strerror or error}"
        if error.errno in (errno.EACCES, errno.EPERM):
            reason += f"; user {os.geteuid()} needs to read and write it and the files in it"
        elif error.errno == errno.EROFS:
            reason += "; a store needs to be written to, also to be read"
        raise StoreUnavailable(reason) from error


def _check_contents(path: Path, *, create: bool) -> None:
    """Make the folder if it is missing, and refuse one that is not ours to fill."""
    if "\0" in str(path):
        raise InvalidInput(f"{str(path)!r} cannot be a path")
    if not path.exists():
        if not create:
            raise StoreMissing(f"there is no store at {path}")
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with suppress(PermissionError):  # a parent that we may enter but not read: its owner's business
            sync(path.absolute().parent)
    if not path.is_dir():
        raise InvalidInput(f"{path} is a file; a store is a folder")
    names = set(os.listdir(path))
    if DATA_FILE in names:
        return
    if not create:
        raise StoreMissing(f"there is no store in {path}")
    if strangers := names - _MAY_STAND_IN_A_NEW_STORE:
        raise InvalidInput(f"{path} holds other things ({min(strangers)!r} for one) and no store: name an empty folder")


def _lock(path: Path) -> int:
    """Take the lock of the folder and leave our name in it; the file descriptor that holds it."""
    lock_path = path / _LOCK_FILE
    while True:
        fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(fd, lock_path):
                with suppress(OSError):  # the note is for people; a full disk must not keep a store from opening
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()} {socket.gethostname()} {os.urandom(8).hex()}\n".encode(), 0)
                return fd
        except BlockingIOError as error:
            note = os.pread(fd, _OWNER_NOTE_BYTES, 0)
            os.close(fd)
            raise StoreLocked(_owner_sentence(path, note)) from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # somebody removed the file between our open and our lock: lock the new one


def _is_still(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _owner_sentence(path: Path, untrusted_note: bytes) -> str:
    pid, host, *_random = [*untrusted_note.decode("ascii", "replace").split(" "), "", ""]
    if pid == str(os.getpid()) and host == socket.gethostname():
        return f"the store {path} is open in this process already: close it first, or use that one"
    owner = f"process {pid} on {host!r}" if pid.isdecimal() else "another process"
    return f"the store {path} is open in {owner}: stop that process, or use the store through it"
