"""One commit as a frame of the journal: bytes on disk, made and checked.

Integers are little-endian::

    checksum (16)    SHA-256(journal's id ‖ everything behind the checksum), cut to 16 bytes
    length (4)       of the frame in bytes, checksum included
    record length (4), number of drops (4), number of outbox items (4)
    n (8), trim (8)
    leaf hash of record n-1 (32), leaf hash of record n (32)
    record
    drops            n (8), index (4) each
    outbox items     index (4), message length (4), address (16), message each

A frame counts only with the right id, number and predecessor, so what an earlier life of the file left, or another
history of the same store, is never taken for the next commit.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from host_store.store import ADDRESS_BYTES, LEAF_BYTES, OutboxItem
from wire.errors import CorruptedStore

if TYPE_CHECKING:
    from host_store.arguments import Commit

ID_BYTES: Final = 16
"""Length of a journal's id: random, new for each use of the file."""
CHECKSUM_BYTES: Final = 16

_HEADER: Final = Struct("<IIIIQQ32s32s")
_DROP: Final = Struct("<QI")
_ITEM: Final = Struct("<II16s")
HEADER_BYTES: Final = CHECKSUM_BYTES + _HEADER.size


class Frame(NamedTuple):
    """What a frame holds, and how long it is."""

    n: int
    record: bytes
    leaf: bytes
    trim: int
    outbox: tuple[OutboxItem, ...]
    drops: tuple[tuple[int, int], ...]
    previous_leaf: bytes
    length: int


def frame_length(commit: Commit) -> int:
    """How many bytes the frame of a commit takes."""
    messages = sum(len(item.message) for item in commit.outbox)
    fixed = HEADER_BYTES + _DROP.size * len(commit.drops) + _ITEM.size * len(commit.outbox)
    return fixed + len(commit.record) + messages


def encode_into(target: memoryview, journal_id: bytes, commit: Commit, previous_leaf: bytes) -> int:
    """Write the frame of a commit to the start of ``target``, which has room for it; returns its length."""
    record, drops, outbox = commit.record, commit.drops, commit.outbox
    at = HEADER_BYTES
    end = at + len(record)
    target[at:end] = record
    at = end
    for place in drops:
        _DROP.pack_into(target, at, *place)
        at += _DROP.size
    for item in outbox:
        _ITEM.pack_into(target, at, item.index, len(item.message), item.address)
        at += _ITEM.size
        end = at + len(item.message)
        target[at:end] = item.message
        at = end
    _HEADER.pack_into(
        target, CHECKSUM_BYTES, at, len(record), len(drops), len(outbox), commit.n, commit.trim, previous_leaf,
        commit.leaf,
    )  # fmt: skip
    target[:CHECKSUM_BYTES] = _checksum(journal_id, target[CHECKSUM_BYTES:at])
    return at


def number_and_length(untrusted: memoryview) -> tuple[int, int] | None:
    """Which record's frame this would be, and how long; None where no whole frame can be. Nothing is checked yet."""
    if len(untrusted) < HEADER_BYTES:
        return None
    length, _record, _drops, _items, n, *_rest = _HEADER.unpack_from(untrusted, CHECKSUM_BYTES)
    return (n, length) if HEADER_BYTES <= length <= len(untrusted) else None


def decode(untrusted: memoryview, journal_id: bytes) -> Frame | None:
    """The frame at the start of ``untrusted``; None if there is no whole one of this journal.

    Raises:
        CorruptedStore: it has the right checksum and makes no sense all the same.
    """
    seen = number_and_length(untrusted)
    if seen is None:
        return None
    n, length = seen
    frame = untrusted[:length]
    if bytes(frame[:CHECKSUM_BYTES]) != _checksum(journal_id, frame[CHECKSUM_BYTES:]):
        return None
    _length, record_length, drop_count, item_count, _n, trim, previous_leaf, leaf = _HEADER.unpack_from(
        frame, CHECKSUM_BYTES
    )
    at = HEADER_BYTES + record_length
    ends = at + drop_count * _DROP.size
    if ends + item_count * _ITEM.size > length:
        raise CorruptedStore(f"the journal's frame of commit {n} contradicts itself")
    record = bytes(frame[HEADER_BYTES:at])
    drops = tuple((m, index) for m, index in _DROP.iter_unpack(frame[at:ends]))
    items = []
    at = ends
    for _ in range(item_count):
        if at + _ITEM.size > length:
            raise CorruptedStore(f"the journal's frame of commit {n} contradicts itself")
        index, message_length, address = _ITEM.unpack_from(frame, at)
        at += _ITEM.size
        items.append(OutboxItem(n, index, address, bytes(frame[at : at + message_length])))
        at += message_length
    if at != length:
        raise CorruptedStore(f"the journal's frame of commit {n} contradicts itself")
    return Frame(n, record, leaf, trim, tuple(items), drops, previous_leaf, length)


def _checksum(journal_id: bytes, content: memoryview) -> bytes:
    digest = sha256(journal_id)
    digest.update(content)
    return digest.digest()[:CHECKSUM_BYTES]


assert _ITEM.size == 8 + ADDRESS_BYTES and _HEADER.size == 32 + 2 * LEAF_BYTES
