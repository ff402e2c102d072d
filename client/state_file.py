"""The file of a client's state: encrypted, authenticated, replaced atomically, and used by one process at a time.

::

    alice.state            the state before the last send, durable before anything left
    alice.state.received   the state after the last receive; worthless beside another alice.state than its own
    alice.state.key        32 random bytes, unless the caller brings a key
    alice.state.lock       whoever holds a flock on it owns the state

    state    = magic(3) ‖ version(1) ‖ key check(8) ‖ sealed once (aad = these 12 bytes)
    received = magic(3) ‖ version(1) ‖ key check(8) ‖ sealed once (aad = these 12 bytes ‖ the state's last 16)

**Why two files.** What a mail depends on must be durable before it leaves, or a power cut makes the client forget
that it sent it, and it would send another one under the same number. What a receive changes may be lost without harm
as long as the host is honest: the mail is still pending, and sending the same bytes again, or a RECOVER, brings the
same answer. So a receive that cannot be saved is no error, and goes to a second name, beside the file that everything
depends on. If that second file is torn, or left over, it does not open, and is ignored. But a host that rolls back just
when the client loses its newest evidence is not found out by it; so the second file is synced as well, unless its user
chooses otherwise. Unsynced it could not take the first one's place: renaming it over the only good one can leave
*nothing* behind after a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from wire.crypto import (
    KEY_BYTES,
    SEAL_OVERHEAD_BYTES,
    TAG_BYTES,
    Randomness,
    Unauthentic,
    derive_key,
    open_once,
    seal_once,
    system_randomness,
)
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    LimitExceeded,
    StoreLocked,
    StoreUnavailable,
    UnsupportedVersion,
    WrongKey,
)
from wire.limits import MAX_STATE_BYTES

_MAGIC: Final = b"pmc"
_VERSION: Final = b"\x01"
_KEY_CHECK_BYTES: Final = 8
_PREFIX_BYTES: Final = len(_MAGIC) + len(_VERSION) + _KEY_CHECK_BYTES
_MAX_FILE_BYTES: Final = _PREFIX_BYTES + SEAL_OVERHEAD_BYTES + MAX_STATE_BYTES
_LABEL: Final = b"client state"
_RECEIVED_LABEL: Final = b"client state after a receive"


class StateFile:
    """An open state file, locked until :meth:`close`. :meth:`open` makes one. Not safe for use by several threads."""

    def __init__(self, path: Path, key: bytes, lock_fd: int, randomness: Randomness, *, sync_receipts: bool) -> None:
        self.path = path
        self._sync_receipts = sync_receipts
        self._key = key
        self._prefix = _MAGIC + _VERSION + _key_check(key)
        self._lock_fd: int | None = lock_fd
        self._owner = os.getpid()
        self._randomness = randomness
        # The last bytes of the durable file, its AEAD tag: what a file of the other kind is bound to.
        self._tag = b""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        key: bytes | None = None,
        randomness: Randomness = system_randomness,
        *,
        sync_receipts: bool = True,
    ) -> StateFile:
        """Lock the file; it need not exist yet. Without ``key`` (32 bytes) one is kept beside it. ``sync_receipts``:
        what is not written durably is synced as well.

        Raises:
            StoreLocked: another process, or this one, has it open.
            WrongKey: there is a state, but its key file is missing.
            InvalidInput: not a file's path, not a key, or a key file that others can read.
            StoreUnavailable: the operating system refuses.
        """
        try:
            # One file has one name here, so that two names cannot mean two locks; and it stays the same after a chdir.
            file = Path(os.path.realpath(path))
        except (ValueError, OSError) as error:
            raise InvalidInput(f"{str(path)!r} cannot be a client's state file") from error
        if key is not None and (not isinstance(key, bytes) or len(key) != KEY_BYTES):
            raise InvalidInput(f"the key of a client state is {KEY_BYTES} random bytes")
        if file.is_dir():
            raise InvalidInput(f"{file} is a folder; a client's state is a file")
        if not file.parent.is_dir():
            raise InvalidInput(f"cannot keep a client's state in {file}: there is no such folder")
        with _worded("use", file):
            lock_fd = _lock(file)
            try:
                key = key or _key_beside(file, randomness)
                return cls(file, key, lock_fd, randomness, sync_receipts=sync_receipts)
            except BaseException:
                os.close(lock_fd)
                raise

    def read(self) -> bytes | None:
        """The newest state that was written; None if there is none yet.

        Raises:
            WrongKey: written with another key.
            CorruptedStore: altered, cut off, or no client state.
            UnsupportedVersion: written in another format.
            StoreUnavailable: the operating system refuses.
        """
        with _worded("read", self.path):
            data = _read(self.path)
            if data is None:
                # Whoever removes the state begins anew: what was received then belongs to nothing.
                self._received.unlink(missing_ok=True)
                return None
            received = _read(self._received)
        state = self._open_state(data)
        self._tag = data[-TAG_BYTES:]
        if received is not None and received[:_PREFIX_BYTES] == self._prefix:
            with suppress(Unauthentic):
                aad = self._prefix + self._tag
                state = open_once(self._key, _RECEIVED_LABEL, received[_PREFIX_BYTES:], aad)
        return state

    def write(self, state: bytes, *, durable: bool) -> None:
        """Replace the state atomically. ``durable``: everything depends on that it survives a power cut once this
        returns; otherwise it does so too, unless the file was opened without ``sync_receipts``.

        Raises:
            LimitExceeded: over ``MAX_STATE_BYTES``; the last one is still there.
            InvalidInput: called in a child process, or after :meth:`close`.
            StoreUnavailable: the operating system refuses; the last one is still there.
        """
        if self._lock_fd is None or os.getpid() != self._owner:
            raise InvalidInput(f"the client state {self.path} is not open in this process: connect again")
        if len(state) > MAX_STATE_BYTES:
            raise LimitExceeded(f"a client state of {len(state)} bytes; at most {MAX_STATE_BYTES} are allowed")
        # The first write of all makes the durable file, for the other kind to be bound to.
        if durable or not self._tag:
            data = self._prefix + seal_once(self._key, _LABEL, state, self._prefix, self._randomness)
            with _worded("write", self.path):
                _replace(self.path, data, durable=True)
            self._tag = data[-TAG_BYTES:]
        else:
            aad = self._prefix + self._tag
            data = self._prefix + seal_once(self._key, _RECEIVED_LABEL, state, aad, self._randomness)
            with _worded("write", self._received):
                _replace(self._received, data, durable=self._sync_receipts)

    def close(self) -> None:
        """Let others use the file. Again is fine."""
        if self._lock_fd is not None:
            if os.getpid() == self._owner:
                # By name, not only by closing: a child forked meanwhile may still have the same lock file open.
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _received(self) -> Path:
        return _beside(self.path, ".received")

    def _open_state(self, data: bytes) -> bytes:
        if len(data) < _PREFIX_BYTES + SEAL_OVERHEAD_BYTES or data[:3] != _MAGIC:
            raise CorruptedStore(f"{self.path} is no client state, or only a part of one")
        if data[3:4] != _VERSION:
            raise UnsupportedVersion(f"{self.path} has format version {data[3]}; this code reads version 1")
        # The check value commits to the key, so that a wrong key is told from altered bytes.
        if data[4:_PREFIX_BYTES] != _key_check(self._key):
            raise WrongKey(f"{self.path} was written with another key than the one given")
        try:
            return open_once(self._key, _LABEL, data[_PREFIX_BYTES:], data[:_PREFIX_BYTES])
        except Unauthentic as error:
            raise CorruptedStore(f"{self.path} was altered, or is damaged") from error


def _key_check(key: bytes) -> bytes:
    return derive_key(key, b"", b"client state key check")[:_KEY_CHECK_BYTES]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


@contextmanager
def _worded(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"cannot {doing} the client state {path}: {error.strerror or error}") from error


def _lock(path: Path) -> int:
    fd = os.open(_beside(path, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise StoreLocked(
            f"the client state {path} is in use: each client is one process; give every other one a state of its own"
        ) from error
    return fd


def _key_beside(path: Path, randomness: Randomness) -> bytes:
    """The key in ``<path>.key``; made, for its owner's eyes only, if neither it nor a state is there."""
    key_path = _beside(path, ".key")
    key = _read(key_path, KEY_BYTES)
    if key is None:
        if path.exists():
            raise WrongKey(f"the client state {path} needs its key: {key_path} is missing")
        key = randomness(KEY_BYTES)
        # Durable before the state is: a state without its key is lost.
        _replace(key_path, key, durable=True)
    elif key_path.stat().st_mode & 0o077:
        raise InvalidInput(f"{key_path} can be read by others: set its mode to 600")
    elif len(key) != KEY_BYTES:
        raise InvalidInput(f"{key_path} does not hold {KEY_BYTES} bytes: it is no key of a client state")
    return key


def _read(path: Path, max_bytes: int = _MAX_FILE_BYTES) -> bytes | None:
    """At most one byte more than ``max_bytes``; None if there is no such file."""
    try:
        with path.open("rb") as file:
            # A read takes memory for all that it asks for.
            return file.read(min(max_bytes, os.fstat(file.fileno()).st_size) + 1)
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Let ``path`` hold ``data``, all of it or what was there before."""
    aside = _beside(path, ".new")
    # Never a leftover's inode: that one could be linked, or open, elsewhere.
    aside.unlink(missing_ok=True)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(fd)
    os.rename(aside, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
