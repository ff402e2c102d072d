"""Directories: names that lead to inodes. A name is bytes, at most 255 of them, without ``/`` and NUL."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from pmap.entries import successor
from pmap.filesystem.layout import CHILD_BYTES, INODE_BYTES, NAMES, Inode, decode_child, encode_child, number
from pmap.filesystem.volume import Volume, os_error
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_NAME_BYTES

_CHANGE_BYTES = CHILD_BYTES + MAX_NAME_BYTES + 3 * INODE_BYTES + 4 * ENTRY_OVERHEAD_BYTES
"""The most that a change of one name writes: the name itself, its inode, and the directory's before and after."""


class Child(NamedTuple):
    """One entry of a directory. ``kind`` is the file type bits of ``st_mode``."""

    name: bytes
    inode: int
    kind: int


def children(volume: Volume, directory: int) -> Iterator[Child]:
    """What is in a directory, in order of the names' bytes. It must not be changed meanwhile."""
    prefix = NAMES + number(directory)
    for key in volume.entries.scan(prefix, successor(prefix)):
        yield Child(key[len(prefix) :], *decode_child(volume.live[key]))


def is_empty(volume: Volume, directory: int) -> bool:
    """Whether nothing is in a directory."""
    return next(children(volume, directory), None) is None


def lookup(volume: Volume, directory: int, name: bytes) -> Inode | None:
    """The inode that a name leads to; None if the name is not there."""
    value = volume.live.get(NAMES + number(directory) + name)
    return None if value is None else volume.inode(decode_child(value)[0])


def add_new(volume: Volume, directory: int, name: bytes, mode: int) -> Inode:
    """Make a file or directory under a name that is free. Raises ``OSError``: ENOSPC, EDQUOT."""
    volume.check_room(_CHANGE_BYTES)
    inode = volume.new_inode(mode)
    _put(volume, directory, name, inode)
    _stamp(volume, directory)
    return inode


def remove(volume: Volume, directory: int, name: bytes, inode: Inode) -> None:
    """Take away a name and what it leads to; a directory has to be empty. Raises ``OSError``: EDQUOT."""
    volume.check_room(_CHANGE_BYTES)
    volume.unlink_inode(inode)
    volume.entries.delete(NAMES + number(directory) + name)
    _stamp(volume, directory)


def move(volume: Volume, source: int, name: bytes, inode: Inode, target: int, new_name: bytes) -> None:
    """Give an inode another name, which is free. Raises ``OSError``: EDQUOT."""
    volume.check_room(_CHANGE_BYTES)
    volume.entries.delete(NAMES + number(source) + name)
    _put(volume, target, new_name, inode)
    inode.ctime = volume.clock()
    volume.save(inode)
    _stamp(volume, source)
    if target != source:
        _stamp(volume, target)


def check_name(name: bytes, path: str) -> None:
    """Raises ``OSError(ENAMETOOLONG)``."""
    if len(name) > MAX_NAME_BYTES:
        raise os_error(errno.ENAMETOOLONG, path)


def _put(volume: Volume, directory: int, name: bytes, inode: Inode) -> None:
    volume.entries.put(NAMES + number(directory) + name, encode_child(inode.number, inode.mode))


def _stamp(volume: Volume, directory: int) -> None:
    inode = volume.inode(directory)
    inode.mtime = inode.ctime = volume.clock()
    volume.save(inode)
