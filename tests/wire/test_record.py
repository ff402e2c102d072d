"""Records: the header's bytes, what is no record, and the size classes."""

from __future__ import annotations

import struct

import pytest

from wire.errors import CorruptedStore, InvalidInput, LimitExceeded, UnsupportedVersion
from wire.limits import MAX_RECORD_BYTES
from wire.record import (
    HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    SMALLEST_CLASS_BYTES,
    Header,
    check_class,
    class_bytes,
    decode_header,
    encode_header,
)

HEADER = Header(bytes(range(16)), b"e" * 32, 9, 4, b"p" * 32)
REST = bytes(RECORD_OVERHEAD_BYTES - HEADER_BYTES)
ENCODED = b"pml\x01" + HEADER.store_id + HEADER.epoch + struct.pack(">QQ", 9, 4) + HEADER.previous


class Long(bytes):
    """Claims a length that would take a while to fill."""

    length: int

    def __len__(self) -> int:
        return self.length


def test_a_header_is_its_hundred_bytes() -> None:
    assert encode_header(*HEADER) == ENCODED
    assert len(ENCODED) == HEADER_BYTES == 100
    assert decode_header(ENCODED + REST) == HEADER
    assert decode_header(memoryview(ENCODED + REST + b"more")) == HEADER


def test_a_record_without_room_for_length_and_tag_or_over_the_bound_is_none() -> None:
    with pytest.raises(CorruptedStore, match="no record has this length"):
        decode_header((ENCODED + REST)[:-1])
    record = Long(ENCODED + REST)
    record.length = MAX_RECORD_BYTES
    assert decode_header(record) == HEADER
    record.length += 1
    with pytest.raises(CorruptedStore, match="no record has this length"):
        decode_header(record)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_another_magic_is_no_record(at: int) -> None:
    altered = bytearray(ENCODED + REST)
    altered[at] ^= 1
    with pytest.raises(CorruptedStore, match="not a record"):
        decode_header(bytes(altered))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_says_so(version: int) -> None:
    with pytest.raises(UnsupportedVersion, match=f"version {version};"):
        decode_header(ENCODED[:3] + bytes([version]) + ENCODED[4:] + REST)


@pytest.mark.parametrize(("n", "tail"), [(0, 0), (1, 0), (1, 2), (9, 10)])
def test_a_tail_outside_the_history_is_refused(n: int, tail: int) -> None:
    with pytest.raises(CorruptedStore, match="tail"):
        decode_header(encode_header(HEADER.store_id, HEADER.epoch, n, tail, HEADER.previous) + REST)


@pytest.mark.parametrize(("n", "tail"), [(1, 1), (9, 1), (9, 9), (2**64 - 1, 2**64 - 1)])
def test_a_tail_may_be_the_first_record_or_the_record_itself(n: int, tail: int) -> None:
    record = encode_header(HEADER.store_id, HEADER.epoch, n, tail, HEADER.previous) + REST
    assert decode_header(record) == HEADER._replace(n=n, tail=tail)


def test_a_class_is_whole_pages_and_the_smallest_that_holds_the_content() -> None:
    assert class_bytes(0) == SMALLEST_CLASS_BYTES == 4096 - 16
    for pages in (1, 2, 4, 1024):
        whole = pages * 4096 - 16
        assert class_bytes(whole - RECORD_OVERHEAD_BYTES) == whole
        assert class_bytes(whole - RECORD_OVERHEAD_BYTES + 1) == 2 * pages * 4096 - 16
        assert class_bytes(0, whole) == whole


def test_the_largest_class_is_the_largest_record() -> None:
    most = MAX_RECORD_BYTES - 16 - RECORD_OVERHEAD_BYTES
    assert class_bytes(most) == MAX_RECORD_BYTES - 16
    with pytest.raises(LimitExceeded):
        class_bytes(most + 1)


@pytest.mark.parametrize("pages_bytes", [4096, 8192, 1 << 20, MAX_RECORD_BYTES])
def test_a_power_of_two_of_pages_is_a_class(pages_bytes: int) -> None:
    assert check_class(pages_bytes - 16) == pages_bytes - 16


@pytest.mark.parametrize("pages_bytes", [0, 16, 2048, 4095, 4097, 3 * 4096, 2 * MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1])
def test_anything_else_is_no_class(pages_bytes: int) -> None:
    with pytest.raises(InvalidInput):
        check_class(pages_bytes - 16)
