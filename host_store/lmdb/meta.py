"""LMDB's two meta pages, read without LMDB: how long the data file has to be.

LMDB maps the file and follows page numbers without looking at the file's length, so opening a file that was cut
short ends the process with SIGBUS. This is the check to make before.

Source: LMDB 0.9's file format (``MDB_meta`` in mdb.c), for 64-bit machines, in the machine's byte order. A page starts
with a 16-byte header; the meta pages are numbers 0 and 1, written in turn, and the one with the higher transaction id
counts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from wire.errors import CorruptedStore, StoreUnavailable, UnsupportedVersion

_MAGIC: Final = 0xBEEFC0DE
_FORMAT_VERSION: Final = 1  # LMDB 0.9; LMDB 1.0 writes 3, behind a page header of 24 bytes
_PAGE_HEADER_BYTES: Final = 16
_NEXT_FORMAT_HEADER_BYTES: Final = 24
# magic, version, (address, map size), page size, (rest of the free table, main table), last page, transaction id
_META: Final = Struct("=II16xI92xQQ")
_MAGIC_FIELD: Final = Struct("=I")
_PAGE_SIZES: Final = frozenset(1 << shift for shift in range(9, 16))  # bytes


@dataclass(frozen=True, slots=True)
class DataFileLength:
    """A data file's length and what its meta pages ask for, in bytes."""

    actual: int
    needed: int


def measure_data_file(path: Path) -> DataFileLength:
    """Compare the length of ``path`` with what the newest of its meta pages refers to.

    Raises:
        CorruptedStore: not a file, or one that does not start with two of LMDB's meta pages.
        UnsupportedVersion: another version of LMDB's format.
        StoreUnavailable: it cannot be read.
    """
    try:
        if not path.is_file():
            raise CorruptedStore(f"{path} is not a file: this is no store, or its data was replaced")
        with path.open("rb") as file:
            actual = os.fstat(file.fileno()).st_size
            page_bytes, *first = _parse(path, file.read(_PAGE_HEADER_BYTES + _META.size))
            file.seek(page_bytes)
            second_page_bytes, *second = _parse(path, file.read(_PAGE_HEADER_BYTES + _META.size))
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error.strerror}") from error
    if page_bytes != second_page_bytes:
        raise CorruptedStore(f"the two meta pages of {path} contradict each other: restore it from a copy")
    _transaction, last_page = max(first, second)
    return DataFileLength(actual, (last_page + 1) * page_bytes)


def _parse(path: Path, untrusted_page: bytes) -> tuple[int, int, int]:
    """Page size in bytes, transaction id and last page number of one meta page."""
    if len(untrusted_page) < _PAGE_HEADER_BYTES + _META.size:
        raise CorruptedStore(f"{path} is too short to be a store's data: it was cut off; restore it from a copy")
    magic, version, page_bytes, last_page, transaction = _META.unpack_from(untrusted_page, _PAGE_HEADER_BYTES)
    next_format: bool = _MAGIC_FIELD.unpack_from(untrusted_page, _NEXT_FORMAT_HEADER_BYTES)[0] == _MAGIC
    if next_format or (magic == _MAGIC and version != _FORMAT_VERSION):
        raise UnsupportedVersion(f"{path} was written by a version of LMDB whose format this program does not read")
    if magic != _MAGIC or page_bytes not in _PAGE_SIZES:
        raise CorruptedStore(
            f"{path} does not start as a store's data does: it was overwritten; restore it from a copy"
        )
    return page_bytes, transaction, last_page
