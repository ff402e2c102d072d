"""How a filesystem stands in the entries: the format of its keys and values.

Under the namespace ``FILES``, all numbers big-endian::

    00                        -> superblock: version(1) ‖ size in bytes(8)
    01 ‖ inode number(8)      -> inode: mode(4) ‖ links(4) ‖ size(8) ‖ blocks(8) ‖ mtime(8) ‖ ctime(8)
    02 ‖ directory(8) ‖ name  -> directory entry: inode number(8) ‖ file type(4)
    03 ‖ inode number(8) ‖ block number(8)  -> block: up to 4096 bytes; what is missing at its end is zeros

Inode numbers count from 1, the root directory; 0 is never used. A block that is not there is a hole. Times are
nanoseconds since 1970. An inode with 0 links is a file without a name that somebody had open: garbage after a restart.
"""

from __future__ import annotations

import stat
import struct
from typing import Final

from pmap.entries import FILES
from wire.errors import CorruptedStore, UnsupportedVersion

VERSION: Final = 1
ROOT: Final = 1
"""The root directory's inode number."""

SUPERBLOCK: Final = FILES + b"\x00"
INODES: Final = FILES + b"\x01"
NAMES: Final = FILES + b"\x02"
BLOCKS: Final = FILES + b"\x03"

_number = struct.Struct(">Q")
_superblock = struct.Struct(">BQ")
_inode = struct.Struct(">IIQQqq")
_child = struct.Struct(">QI")
number: Final = _number.pack

INODE_BYTES: Final = len(INODES) + _number.size + _inode.size
CHILD_BYTES: Final = len(NAMES) + _number.size + _child.size
BLOCK_KEY_BYTES: Final = len(BLOCKS) + 2 * _number.size


class Inode:
    """One file or directory, without its name. ``number`` is its place, the rest its entry's value."""

    __slots__ = ("blocks", "ctime", "links", "mode", "mtime", "number", "size")

    def __init__(self, number: int, mode: int, links: int, size: int, blocks: int, mtime: int, ctime: int) -> None:
        self.number = number
        self.mode = mode
        self.links = links
        self.size = size
        self.blocks = blocks
        self.mtime = mtime
        self.ctime = ctime

    @classmethod
    def decode(cls, number: int, value: bytes) -> Inode:
        """Raises :class:`CorruptedStore`."""
        try:
            return cls(number, *_inode.unpack(value))
        except struct.error as error:
            raise CorruptedStore(f"inode {number} is of an unknown layout") from error

    def encode(self) -> bytes:
        """The entry's value, always of one length."""
        return _inode.pack(self.mode, self.links, self.size, self.blocks, self.mtime, self.ctime)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory; else it is a regular file."""
        return stat.S_ISDIR(self.mode)


def encode_superblock(size: int) -> bytes:
    """The superblock of a filesystem of ``size`` bytes."""
    return _superblock.pack(VERSION, size)


def decode_superblock(value: bytes) -> int:
    """The filesystem's size in bytes. Raises :class:`UnsupportedVersion` and :class:`CorruptedStore`."""
    if value[:1] != bytes([VERSION]):
        raise UnsupportedVersion(f"the filesystem is of format {value[:1].hex()}, this code knows {VERSION}")
    try:
        _, size = _superblock.unpack(value)
    except struct.error as error:
        raise CorruptedStore("the filesystem's superblock is of an unknown layout") from error
    return int(size)


def encode_child(inode: int, mode: int) -> bytes:
    """A directory entry that names ``inode``."""
    return _child.pack(inode, stat.S_IFMT(mode))


def decode_child(value: bytes) -> tuple[int, int]:
    """``(inode number, file type)``. Raises :class:`CorruptedStore`."""
    try:
        inode, kind = _child.unpack(value)
    except struct.error as error:
        raise CorruptedStore("a directory entry is of an unknown layout") from error
    return inode, kind


def inode_number(key: bytes) -> int:
    """The number in an inode's key."""
    return int.from_bytes(key[len(INODES) :], "big")
