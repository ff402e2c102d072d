"""The journal: a file of fixed size in which a commit is durable with one write, before LMDB has it.

LMDB writes a path of pages and flushes twice for each commit. A frame here is written once, to a place that has its
blocks on the disk already, so that one flush carries it and no metadata of the file system. Groups of commits go on
to LMDB, and then the file is used again from its start.

The file begins with a page of its own: ``magic (14) ‖ id (16)``. Each use of the file has a new random id; while it
counts, LMDB holds the same id. Each frame (:mod:`~host_store.lmdb.journal_frame`) begins on a page and is padded to
whole pages: no write ever touches a page that holds an acknowledged commit, so none can be torn by a later one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from host_store.arguments import Commit
from host_store.lmdb import journal_frame
from host_store.lmdb.journal_frame import ID_BYTES, Frame
from host_store.lmdb.store_folder import sync
from wire.errors import CorruptedStore, StoreUnavailable
from wire.limits import KIB, MIB

JOURNAL_FILE: Final = "journal"
JOURNAL_BYTES: Final = MIB
"""Length of the file: about a hundred small commits in one of LMDB's transactions."""
MAX_FRAME_BYTES: Final = 64 * KIB
"""Larger commits are written to LMDB at once: for them the second copy costs more than a flush."""
PAGE_BYTES: Final = 4096
"""What a file system writes at once."""

_MAGIC: Final = b"pmap-journal/1"
_NEW: Final = ".new"


class Journal:
    """The file, open for writing. Each method raises :class:`OSError`; then the journal is of no more use."""

    def __init__(self, path: Path, length: int = JOURNAL_BYTES) -> None:
        """Take the file ``path`` into use under a new id, durably; make it if it is missing or of another length.

        What is in it must be worthless.
        """
        if not path.is_file() or path.stat().st_size != length:
            _make(path, length)
        self._length = length
        self.id = os.urandom(ID_BYTES)
        self._fd = -1
        self._buffer = mmap.mmap(-1, MAX_FRAME_BYTES)  # begins on a page, as writing past the page cache asks
        self._view = memoryview(self._buffer)
        self._at = PAGE_BYTES
        try:
            self._view[: len(_MAGIC) + ID_BYTES] = _MAGIC + self.id
            self._open(path)
        except BaseException:
            self.close()
            raise

    @property
    def used_bytes(self) -> int:
        """What the frames take that LMDB does not have yet."""
        return self._at - PAGE_BYTES

    def has_room(self, length: int) -> bool:
        """Whether a frame of so many bytes fits behind the others."""
        return self._at + length <= self._length

    def write(self, commit: Commit, previous_leaf: bytes) -> None:
        """Write one frame, for which there is room. It is durable on return; after an error nobody knows."""
        view = self._view
        length = journal_frame.encode_into(view, self.id, commit, previous_leaf)
        padded = -(-length // PAGE_BYTES) * PAGE_BYTES
        view[length:padded] = bytes(padded - length)
        self._write(padded, self._at)
        self._at += padded

    def restart(self) -> None:
        """Write over everything from now on: LMDB has it all."""
        self._at = PAGE_BYTES

    def close(self) -> None:
        """Close the file. Again is fine."""
        self._view.release()
        self._buffer.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, path: Path) -> None:
        """Open the file and write its first page: past the page cache, where the file system can do that."""
        flags = os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags | os.O_DIRECT)
            self._write(PAGE_BYTES, 0)
        except OSError:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = os.open(path, flags)
            self._write(PAGE_BYTES, 0)

    def _write(self, length: int, at: int) -> None:
        written = os.pwrite(self._fd, self._view[:length], at)
        if written != length:
            raise OSError(f"only {written} of {length} bytes were written")


def read_journal(path: Path, journal_id: bytes, n: int, leaf: bytes) -> list[Commit]:
    """The commits of a journal that counts, from n + 1 on; record n has this ``leaf`` hash.

    Frames up to n are of a group that LMDB has already. Every frame beyond must be the next one: a frame is written
    only after the one before it is durable, so a gap means that something acknowledged was lost.

    Raises:
        CorruptedStore: the file is missing, another one, or has a gap.
        StoreUnavailable: it cannot be read.
    """
    try:
        sync(path)  # what a killed process wrote last may be in the page cache only
        untrusted = memoryview(path.read_bytes())
    except FileNotFoundError as error:
        raise CorruptedStore(
            f"{path} is missing, and with it the newest commits: restore the whole folder from a copy"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error.strerror}") from error
    if bytes(untrusted[: len(_MAGIC) + ID_BYTES]) != _MAGIC + journal_id:
        raise CorruptedStore(
            f"{path} does not belong to the data file beside it: restore the whole folder from one copy"
        )
    commits: list[Commit] = []
    for frame in _frames_after(untrusted, journal_id, n):
        if frame.n <= n:
            continue
        if frame.n != n + 1 or frame.previous_leaf != leaf:
            raise CorruptedStore(
                f"{path} goes on with commit {frame.n}, but the data file ends with commit {n}:"
                " restore the whole folder from one copy"
            )
        commits.append(Commit.checked(frame.n, frame.record, frame.leaf, frame.trim, frame.outbox, frame.drops))
        n, leaf = frame.n, frame.leaf
    return commits


def _frames_after(untrusted: memoryview, journal_id: bytes, n: int) -> Iterator[Frame]:
    """Every valid frame of a larger number than n, wherever it begins."""
    at = PAGE_BYTES
    while at < len(untrusted):
        window = untrusted[at : at + MAX_FRAME_BYTES]
        seen = journal_frame.number_and_length(window)
        frame = journal_frame.decode(window, journal_id) if seen is not None and seen[0] > n else None
        if frame is not None:
            yield frame
        at += PAGE_BYTES if frame is None else -(-frame.length // PAGE_BYTES) * PAGE_BYTES


def _make(path: Path, length: int) -> None:
    """A file that has all its blocks on the disk, in the place of whatever is there. Raises :class:`OSError`."""
    aside = path.with_name(path.name + _NEW)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Written, not only reserved: the first write to reserved blocks changes metadata of the file system.
        zeros = bytes(length)
        written = 0
        while written < length:
            written += os.write(fd, memoryview(zeros)[written:])
        os.fsync(fd)
    except BaseException:
        aside.unlink()
        raise
    finally:
        os.close(fd)
    os.rename(aside, path)
    sync(path.parent)
