"""A strict reader of DER (ITU-T X.690): one definite length per value, in its shortest form, nothing left over.

Vendors' certificates are parsed here and not by a general X.509 library, for two reasons: AMD gives its chip
certificates the serial number 0, which RFC 5280 forbids and strict libraries refuse; and bytes that a general parser
would forgive must not pass unnoticed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from wire.errors import EvidenceMalformed

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_ID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
_LONG_FORM: Final = 0x80
_DATE: Final = re.compile(rb"[0-9]{14}Z")
_MAX_LENGTH_BYTES: Final = 3  # 16 MiB: far above any bound that a caller has


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its tag, its content, and its whole encoding (``raw``)."""

    tag: int
    content: bytes
    raw: bytes


def values(data: bytes) -> Iterator[Value]:
    """The values that ``data`` consists of. Raises :class:`EvidenceMalformed`."""
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        if tag & 0x1F == 0x1F:
            raise EvidenceMalformed("DER with a tag of several bytes")
        length, at = _length(data, at + 1)
        if at + length > len(data):
            raise EvidenceMalformed("DER that ends in the middle of a value")
        yield Value(tag, data[at : at + length], data[start : at + length])
        at += length


def _length(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise EvidenceMalformed("DER that ends before a length")
    first = data[at]
    if first < _LONG_FORM:
        return first, at + 1
    count = first - _LONG_FORM
    encoded = data[at + 1 : at + 1 + count]
    length = int.from_bytes(encoded, "big")
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(encoded) != count or not encoded[0] or length < _LONG_FORM:
        raise EvidenceMalformed("DER with a length that is not in its shortest form")
    return length, at + 1 + count


def only(data: bytes, tag: int) -> Value:
    """The one value that ``data`` consists of, of this tag. Raises :class:`EvidenceMalformed`."""
    (value,) = expect(data, tag)
    return value


def expect(data: bytes, *tags: int) -> list[Value]:
    """Exactly these tags in this order. Raises :class:`EvidenceMalformed`."""
    found = list(values(data))
    if [value.tag for value in found] != list(tags):
        raise EvidenceMalformed("DER of another structure than expected")
    return found


def integer(value: Value) -> int:
    """A non-negative INTEGER. Raises :class:`EvidenceMalformed`."""
    content = value.content
    if value.tag != INTEGER or not content or content[0] & 0x80:
        raise EvidenceMalformed("DER: not a non-negative integer")
    if len(content) > 1 and not content[0] and not content[1] & 0x80:
        raise EvidenceMalformed("DER with an integer that is not in its shortest form")
    return int.from_bytes(content, "big")


def bit_string(value: Value) -> bytes:
    """A BIT STRING of whole bytes. Raises :class:`EvidenceMalformed`."""
    if value.tag != BIT_STRING or value.content[:1] != b"\x00":
        raise EvidenceMalformed("DER: not a bit string of whole bytes")
    return value.content[1:]


def object_id(value: Value) -> str:
    """An OBJECT IDENTIFIER, dotted. Raises :class:`EvidenceMalformed`."""
    content = value.content
    if value.tag != OBJECT_ID or not content or content[-1] & 0x80:
        raise EvidenceMalformed("DER: not an object identifier")
    arcs: list[int] = []
    arc, fresh = 0, True
    for byte in content:
        if fresh and byte == _LONG_FORM:
            raise EvidenceMalformed("DER with an object identifier that is not in its shortest form")
        arc, fresh = arc << 7 | byte & 0x7F, byte < _LONG_FORM
        if fresh:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, [top, arcs[0] - 40 * top, *arcs[1:]]))


def time(value: Value) -> int:
    """Unix seconds of a UTCTime (years 1950 to 2049) or a GeneralizedTime. Raises :class:`EvidenceMalformed`."""
    content = value.content
    if value.tag == UTC_TIME:
        content = (b"19" if content[:1] >= b"5" else b"20") + content
    if value.tag not in (UTC_TIME, GENERALIZED_TIME) or _DATE.fullmatch(content) is None:
        raise EvidenceMalformed("DER with a date that is none")
    try:
        moment = datetime.strptime(content.decode("ascii"), "%Y%m%d%H%M%SZ")
    except ValueError as error:
        raise EvidenceMalformed("DER with a date that is none") from error
    return int(moment.replace(tzinfo=UTC).timestamp())
