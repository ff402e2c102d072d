"""The content of files: bytes in 4 KiB blocks.

A write of a whole block reads nothing, and a read copies straight into the caller's buffer. A block's value ends where
its file was written to, so a small file costs what it holds; the rest of a block is zeros.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

from pmap.filesystem.layout import BLOCK_KEY_BYTES, BLOCKS, INODE_BYTES, Inode, number
from pmap.filesystem.volume import REMOVED_BLOCK_BYTES, Volume, os_error
from wire.limits import BLOCK_BYTES, ENTRY_OVERHEAD_BYTES, MAX_FILE_BYTES, MAX_RAW_WRITE_BYTES

_WRITTEN_BLOCK_BYTES = BLOCK_KEY_BYTES + BLOCK_BYTES + ENTRY_OVERHEAD_BYTES
_WRITTEN_INODE_BYTES = INODE_BYTES + ENTRY_OVERHEAD_BYTES


def read_into(volume: Volume, inode: Inode, offset: int, buffer: memoryview) -> int:
    """Fill ``buffer`` (bytes) with the content from ``offset`` on; returns how much there was."""
    wanted = min(len(buffer), inode.size - offset)
    if wanted <= 0:
        return 0
    get, prefix = volume.live.get, BLOCKS + number(inode.number)
    index, skip = divmod(offset, BLOCK_BYTES)
    done = 0
    while done < wanted:
        length = min(BLOCK_BYTES - skip, wanted - done)
        block = get(prefix + number(index))
        there = 0
        if block is not None:
            there = max(0, min(len(block) - skip, length))
            buffer[done : done + there] = block if there == len(block) else memoryview(block)[skip : skip + there]
        if there < length:
            buffer[done + there : done + length] = bytes(length - there)
        done += length
        index += 1
        skip = 0
    return done


def read(volume: Volume, inode: Inode, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``offset`` on; fewer only at the end."""
    index, skip = divmod(offset, BLOCK_BYTES)
    length = max(0, min(length, inode.size - offset))
    if skip + length <= BLOCK_BYTES:
        # What most callers read, and SQLite always: one block, and if it is all of it then without a copy.
        block = volume.live.get(BLOCKS + number(inode.number) + number(index), b"")
        part = block if skip == 0 and len(block) == length else block[skip : skip + length]
        return part if len(part) == length else part.ljust(length, b"\x00")
    buffer = bytearray(length)
    read_into(volume, inode, offset, memoryview(buffer))
    return bytes(buffer)


def write(volume: Volume, inode: Inode, offset: int, data: memoryview) -> int:
    """Write at ``offset``; returns how much of ``data`` (bytes) was written: all, but for a full volume or for more
    than ``MAX_RAW_WRITE_BYTES``. Inside :meth:`Volume.writing`; updates size and times of ``inode``.

    Raises ``OSError``: ENOSPC if nothing fits, EFBIG beyond ``MAX_FILE_BYTES``, EDQUOT if the transaction is too large.
    """
    length = min(len(data), MAX_RAW_WRITE_BYTES, MAX_FILE_BYTES - offset)
    if length <= 0:
        if not len(data):
            return 0
        raise os_error(errno.EFBIG)
    prefix = BLOCKS + number(inode.number)
    first, skip = divmod(offset, BLOCK_BYTES)
    last = (offset + length - 1) // BLOCK_BYTES
    volume.check_room((last - first + 1) * _WRITTEN_BLOCK_BYTES + _WRITTEN_INODE_BYTES)
    live, put, free = volume.live, volume.entries.put, volume.free_blocks
    added = done = 0
    for index in range(first, last + 1):
        key = prefix + number(index)
        before = live.get(key)
        if before is None:
            if added == free:
                break
            added += 1
        end = min(BLOCK_BYTES, skip + length - done)
        block = bytes(data[done : done + end - skip])
        if before is not None and (skip or end < len(before)):
            block = before[:skip].ljust(skip, b"\x00") + block + before[end:]
        elif skip:
            block = bytes(skip) + block
        put(key, block)
        done += end - skip
        skip = 0
    if not done:
        raise os_error(errno.ENOSPC)
    volume.count_blocks(added)
    inode.blocks += added
    inode.size = max(inode.size, offset + done)
    inode.mtime = inode.ctime = volume.clock()
    volume.save(inode)
    return done


def truncate(volume: Volume, inode: Inode, size: int) -> None:
    """Set a file's size: cut off, or go on with a hole. Inside :meth:`Volume.writing`.

    Raises ``OSError``: EFBIG beyond ``MAX_FILE_BYTES``, EDQUOT if the transaction is too large.
    """
    if size > MAX_FILE_BYTES:
        raise os_error(errno.EFBIG)
    volume.check_room(inode.blocks * REMOVED_BLOCK_BYTES + _WRITTEN_BLOCK_BYTES + _WRITTEN_INODE_BYTES)
    if size < inode.size:
        kept, rest = divmod(size, BLOCK_BYTES)
        volume.drop_blocks(inode, kept + (rest > 0))
        if rest:
            key = BLOCKS + number(inode.number) + number(kept)
            block = volume.live.get(key)
            if block is not None and len(block) > rest:
                # What is cut off must not come back when the file grows again.
                volume.entries.put(key, block[:rest])
    inode.size = size
    inode.mtime = inode.ctime = volume.clock()
    volume.save(inode)


def new_blocks(volume: Volume, inode: Inode, indexes: Iterable[int]) -> int:
    """How many of these blocks would take space that is not yet taken."""
    live, prefix = volume.live, BLOCKS + number(inode.number)
    return sum(prefix + number(index) not in live for index in indexes)


def put_blocks(volume: Volume, inode: Inode, blocks: Mapping[int, bytes], size: int) -> None:
    """Write whole blocks (number -> 4096 bytes) and set the file's size, which lies behind them all.

    All of it or nothing; inside :meth:`Volume.writing`.

    Raises ``OSError``: ENOSPC, EDQUOT if the transaction is too large.
    """
    volume.check_room(len(blocks) * _WRITTEN_BLOCK_BYTES + _WRITTEN_INODE_BYTES)
    added = new_blocks(volume, inode, blocks)
    if added > volume.free_blocks:
        raise os_error(errno.ENOSPC)
    put, prefix = volume.entries.put, BLOCKS + number(inode.number)
    for index, block in blocks.items():
        put(prefix + number(index), block)
    volume.count_blocks(added)
    inode.blocks += added
    inode.size = size
    inode.mtime = inode.ctime = volume.clock()
    volume.save(inode)
