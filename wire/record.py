"""The record: what the host keeps of one commit. Header in the clear, everything else encrypted.

::

    header (100 bytes) ‖ AES-256-GCM(length(4) ‖ body ‖ zero padding)
    header = magic(3) ‖ version(1) ‖ store id(16) ‖ epoch(32) ‖ n(8) ‖ tail(8) ‖ previous(32)

``previous`` is the leaf hash of record n-1 (zero for n = 1), so one record commits to the whole history before it.
``tail`` is the oldest record that a restart needs once this one is stored. The header is the AAD.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from wire.crypto import HASH_BYTES, TAG_BYTES
from wire.errors import CorruptedStore, InvalidInput, LimitExceeded, UnsupportedVersion
from wire.limits import LMDB_PAGE_BYTES, LMDB_PAGE_HEADER_BYTES, MAX_RECORD_BYTES

MAGIC: Final = b"pml"
RECORD_VERSION: Final = 1
STORE_ID_BYTES: Final = 16
EPOCH_BYTES: Final = 32
NO_RECORD: Final = bytes(HASH_BYTES)
"""``previous`` of the first record."""

_header = struct.Struct(">3sB16s32sQQ32s")
HEADER_BYTES: Final = _header.size
LENGTH_BYTES: Final = 4
RECORD_OVERHEAD_BYTES: Final = HEADER_BYTES + LENGTH_BYTES + TAG_BYTES
SMALLEST_CLASS_BYTES: Final = LMDB_PAGE_BYTES - LMDB_PAGE_HEADER_BYTES


class Header(NamedTuple):
    """The clear part of a record. Only what :func:`decode_header` checked; not yet authenticated."""

    store_id: bytes
    epoch: bytes
    n: int
    tail: int
    previous: bytes


def encode_header(store_id: bytes, epoch: bytes, n: int, tail: int, previous: bytes) -> bytes:
    """The header's 100 bytes."""
    return _header.pack(MAGIC, RECORD_VERSION, store_id, epoch, n, tail, previous)


def decode_header(untrusted_record: bytes | memoryview) -> Header:
    """Read the header of a record.

    Raises:
        CorruptedStore: too short, too long, no record at all, or a tail beyond the record.
        UnsupportedVersion: a record of another format version.
    """
    if not HEADER_BYTES + LENGTH_BYTES + TAG_BYTES <= len(untrusted_record) <= MAX_RECORD_BYTES:
        raise CorruptedStore(f"a record of {len(untrusted_record)} bytes: no record has this length")
    magic, version, store_id, epoch, n, tail, previous = _header.unpack_from(untrusted_record)
    if magic != MAGIC:
        raise CorruptedStore("these bytes are not a record")
    if version != RECORD_VERSION:
        raise UnsupportedVersion(f"a record of format version {version}; this code reads version {RECORD_VERSION}")
    if not 1 <= tail <= n:
        raise CorruptedStore("a record whose tail is not between 1 and its own number")
    return Header(store_id, epoch, n, tail, previous)


def class_bytes(content_bytes: int, smallest: int = SMALLEST_CLASS_BYTES) -> int:
    """The size class, in bytes of the whole record, that holds ``content_bytes`` of body.

    Classes are 4096 * 2**k - 16 bytes: whole LMDB overflow pages. Raises :class:`LimitExceeded`.
    """
    pages_bytes = smallest + LMDB_PAGE_HEADER_BYTES
    needed = content_bytes + RECORD_OVERHEAD_BYTES + LMDB_PAGE_HEADER_BYTES
    while pages_bytes < needed:
        pages_bytes *= 2
    if pages_bytes > MAX_RECORD_BYTES:
        raise LimitExceeded(f"a commit of {content_bytes} bytes is over the largest record")
    return pages_bytes - LMDB_PAGE_HEADER_BYTES


def check_class(smallest: int) -> int:
    """Check a configured smallest class (bytes of the whole record). Raises :class:`InvalidInput`."""
    pages_bytes = smallest + LMDB_PAGE_HEADER_BYTES
    if pages_bytes < LMDB_PAGE_BYTES or pages_bytes > MAX_RECORD_BYTES or pages_bytes & (pages_bytes - 1):
        raise InvalidInput(f"a record class is 4096 * 2**k - 16 bytes, not {smallest}")
    return smallest
