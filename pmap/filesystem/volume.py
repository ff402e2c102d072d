"""One volume: the inodes of one filesystem, how much of its size they use, and the transaction that a write belongs to.

Space is counted in blocks: a volume of ``size`` bytes has ``size // 4096`` of them, and a file uses one for each block
that was ever written, be it partly. What does not fit is refused when it is written (ENOSPC), never later.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from pmap.entries import Entries, successor
from pmap.filesystem.clock import Clock
from pmap.filesystem.layout import (
    BLOCK_KEY_BYTES,
    BLOCKS,
    INODES,
    ROOT,
    SUPERBLOCK,
    Inode,
    decode_superblock,
    encode_superblock,
    inode_number,
    number,
)
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import BLOCK_BYTES, ENTRY_OVERHEAD_BYTES, MAX_CONFIGURED_SIZE_BYTES, MIN_INODES

DIRECTORY_MODE: Final = 0o040755
REMOVED_BLOCK_BYTES: Final = BLOCK_KEY_BYTES + ENTRY_OVERHEAD_BYTES
"""What the removal of a block takes in a record."""
_OPEN: Final = nullcontext()

Autocommit = Callable[[], AbstractContextManager[None]]
"""Makes the transaction for one call: commits on a normal exit, aborts on an exception."""


def os_error(code: int, *paths: str) -> OSError:
    """The subclass of :class:`OSError` that belongs to ``code``, in the system's words."""
    if len(paths) == 2:
        return OSError(code, os.strerror(code), paths[0], None, paths[1])
    return OSError(code, os.strerror(code), *paths)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a volume is. ``blocks`` are of 4096 bytes."""

    size: int
    blocks: int
    free_blocks: int
    inodes: int
    free_inodes: int


def prepare_volume(entries: Entries, size: int, clock: Clock, *, grow: bool = False) -> None:
    """Make sure that a volume of ``size`` bytes is there: make it if there is none, or grow it if ``grow`` is set.

    What this writes becomes durable with the next commit, all of it or nothing; until then a restart does it again.

    Raises:
        InvalidInput: the volume has another size, and growing was not allowed or would be shrinking.
        CorruptedStore, UnsupportedVersion: as :func:`pmap.filesystem.layout.decode_superblock`.
    """
    if not BLOCK_BYTES <= size <= MAX_CONFIGURED_SIZE_BYTES:
        raise InvalidInput(f"a filesystem of {size} bytes; it has from {BLOCK_BYTES} to {MAX_CONFIGURED_SIZE_BYTES}")
    stored = stored_size(entries)
    if stored == size:
        return
    if stored is not None and not (grow and size > stored):
        how = "cannot be made smaller" if size < stored else "grows only when that is asked for explicitly"
        raise InvalidInput(f"the filesystem was made with {stored} bytes, but {size} are set: it {how}")
    with entries.transaction(single=True):
        entries.put(SUPERBLOCK, encode_superblock(size))
        if stored is None:
            now = clock()
            entries.put(INODES + number(ROOT), Inode(ROOT, DIRECTORY_MODE, 1, 0, 0, now, now).encode())


def stored_size(entries: Entries) -> int | None:
    """The size in bytes of the volume in these entries; None if there is none."""
    value = entries.live.get(SUPERBLOCK)
    return None if value is None else decode_superblock(value)


class Volume:
    """The volume in ``entries``, which :func:`prepare_volume` made. Nobody else writes its namespace.

    Args:
        outer: for a volume with entries of its own: whose transactions it follows.
        autocommit: makes the transaction for a call that writes while none is open. Without it such a call raises
            ``OSError(EROFS)``.
    """

    def __init__(
        self, entries: Entries, clock: Clock, *, outer: Entries | None = None, autocommit: Autocommit | None = None
    ) -> None:
        size = stored_size(entries)
        assert size is not None, "the volume was prepared"
        self.entries = entries
        self.live: dict[bytes, bytes] = entries.live
        self.clock = clock
        self.opened: dict[int, int] = {}  # inode number -> handles that are open
        self._outer = outer
        self._autocommit = autocommit
        self._noted = -1
        self._blocks = self._inodes = 0
        self._orphans: set[int] = set()
        self._next = ROOT + 1
        self._resize(size)
        for inode in self._stored_inodes():
            self._inodes += 1
            self._blocks += inode.blocks
            self._next = max(self._next, inode.number + 1)
            if inode.links == 0:
                self._orphans.add(inode.number)

    def _resize(self, size: int) -> None:
        self.size = size
        self._max_blocks = size // BLOCK_BYTES
        self._max_inodes = max(self._max_blocks, MIN_INODES)

    def _stored_inodes(self) -> Iterator[Inode]:
        for key in self.entries.scan(INODES, successor(INODES)):
            yield Inode.decode(inode_number(key), self.live[key])

    @property
    def usage(self) -> Usage:
        """How full it is."""
        return Usage(
            self.size,
            self._max_blocks,
            self._max_blocks - self._blocks,
            self._max_inodes,
            self._max_inodes - self._inodes,
        )

    def grow(self, size: int) -> None:
        """Make the volume larger. Durable with the commit of the transaction. Raises as :func:`prepare_volume`."""
        if size < self.size:
            raise InvalidInput(f"the filesystem has {self.size} bytes; it cannot be made smaller")
        if size > MAX_CONFIGURED_SIZE_BYTES:
            raise InvalidInput(f"a filesystem has at most {MAX_CONFIGURED_SIZE_BYTES} bytes")
        with self.writing():
            before = self.size
            self.entries.on_abort(lambda: self._resize(before))
            self.entries.put(SUPERBLOCK, encode_superblock(size))
            self._resize(size)

    # --- transactions ---

    def writing(self) -> AbstractContextManager[None]:
        """The open transaction, or one for this call. Every change of the volume stands inside."""
        entries = self.entries
        if not entries.in_transaction:
            outer = self._outer
            if outer is None or not outer.in_transaction:
                if self._autocommit is None:
                    raise os_error(errno.EROFS)
                return self._one_call(self._autocommit)
            # Ends with the outer transaction: see follow_commit and follow_abort.
            entries.begin()
        self._note()
        return _OPEN

    @contextmanager
    def _one_call(self, autocommit: Autocommit) -> Iterator[None]:
        with autocommit():
            self._note()
            yield

    def _note(self) -> None:
        """Have an abort restore the counters, and drop what nobody can reach any more."""
        entries = self.entries
        if self._noted != entries.begun:
            self._noted = entries.begun
            blocks, inodes, orphans = self._blocks, self._inodes, frozenset(self._orphans)

            def restore() -> None:
                self._blocks, self._inodes, self._orphans = blocks, inodes, set(orphans)

            entries.on_abort(restore)
        if self._orphans:
            for orphan in [orphan for orphan in self._orphans if orphan not in self.opened]:
                self._orphans.discard(orphan)
                self._remove(self.inode(orphan))

    def follow_commit(self) -> None:
        """The outer transaction was committed."""
        if self._outer is not None and self.entries.in_transaction:
            self.entries.commit()
            self.entries.take_changes()  # no record will ask for them

    def follow_abort(self) -> None:
        """The outer transaction was undone; every open file with it."""
        self.opened.clear()
        if self._outer is not None and self.entries.in_transaction:
            self.entries.abort()

    def check_room(self, written: int) -> None:
        """Raises ``OSError(EDQUOT)`` unless the transaction may write that many bytes more."""
        try:
            self.entries.check_room(written)
        except LimitExceeded as error:
            raise OSError(errno.EDQUOT, str(error)) from error

    # --- inodes ---

    def inode(self, ino: int) -> Inode:
        """Raises :class:`KeyError` if there is none."""
        return Inode.decode(ino, self.live[INODES + number(ino)])

    def save(self, inode: Inode) -> None:
        """Write an inode's entry. Inside :meth:`writing`."""
        self.entries.put(INODES + number(inode.number), inode.encode())

    def new_inode(self, mode: int) -> Inode:
        """Make an inode with one link. Raises ``OSError(ENOSPC)`` if there are as many as there may be."""
        if self._inodes >= self._max_inodes:
            raise os_error(errno.ENOSPC)
        now = self.clock()
        inode = Inode(self._next, mode, 1, 0, 0, now, now)
        self._next += 1
        self._inodes += 1
        self.save(inode)
        return inode

    def unlink_inode(self, inode: Inode) -> None:
        """Take an inode's only name from it. Its content goes now, or when its last handle is closed."""
        if inode.number in self.opened:
            inode.links = 0
            inode.ctime = self.clock()
            self.save(inode)
            self._orphans.add(inode.number)
        else:
            self._remove(inode)

    def _remove(self, inode: Inode) -> None:
        self.drop_blocks(inode, 0)
        self.entries.delete(INODES + number(inode.number))
        self._inodes -= 1

    # --- space ---

    @property
    def free_blocks(self) -> int:
        """How many blocks can still be written."""
        return self._max_blocks - self._blocks

    def count_blocks(self, added: int) -> None:
        """Blocks were written for the first time, or (negative) removed."""
        self._blocks += added

    def drop_blocks(self, inode: Inode, first: int) -> None:
        """Remove an inode's blocks from number ``first`` on. The inode's entry is the caller's to save."""
        if not inode.blocks:
            return
        prefix = BLOCKS + number(inode.number)
        keys = list(self.entries.scan(prefix + number(first), successor(prefix)))
        self.check_room((len(keys) + 1) * REMOVED_BLOCK_BYTES)
        for key in keys:
            self.entries.delete(key)
        self.count_blocks(-len(keys))
        inode.blocks -= len(keys)
