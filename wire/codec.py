"""Strict msgpack: the one module that imports ``msgpack``.

msgpack is not canonical (integers in longer forms, repeated map keys), so bytes from somebody else
are bounded first, decoded with every limit set, and must encode back to the very same bytes.
Only nil, bool, int, str, bytes and arrays of them exist here: no maps, floats, extensions.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from wire.errors import Malformed

_packer_errors = (ValueError, TypeError, OverflowError)
_unpack_errors = (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError)
MAX_ARRAY_ITEMS: Final = 1_000_000


def pack(value: Any) -> bytes:
    """Encode nil, bool, int, str, bytes and (nested) lists or tuples of them."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(untrusted: bytes | memoryview, max_bytes: int, *, max_items: int = MAX_ARRAY_ITEMS) -> Any:
    """Decode bytes that may come from anybody.

    Raises:
        Malformed: longer than ``max_bytes``, not msgpack, trailing bytes, a type outside the ones
            above, an array over ``max_items``, or not the canonical encoding of its value.
    """
    if len(untrusted) > max_bytes:
        raise Malformed(f"{len(untrusted)} bytes where at most {max_bytes} are allowed")
    value = unpack_authentic(untrusted, max_items=max_items)
    try:
        canonical = pack(value)
    except _packer_errors as error:
        raise Malformed("holds a type that the format does not have") from error
    if canonical != untrusted:
        raise Malformed("not the canonical encoding")
    return value


def unpack_authentic(data: bytes | memoryview, *, max_items: int = 1 << 31) -> Any:
    """Decode bytes whose exact form was authenticated before (our own writing): no re-encoding.

    Raises:
        Malformed: not msgpack, or trailing bytes.
    """
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=min(max_items, len(data)),
            max_map_len=0,
            max_ext_len=0,
        )
    except _unpack_errors as error:
        raise Malformed("not valid msgpack of the expected kind") from error


def expect(value: Any, *types: type) -> list[Any]:
    """Check that ``value`` is an array of exactly these types (``NoneType`` by ``type(None)``).

    ``object`` stands for any type. Booleans do not pass for integers. Raises :class:`Malformed`.
    """
    if type(value) is not list or len(value) != len(types):
        raise Malformed(f"expected an array of {len(types)} fields")
    for field, wanted in zip(value, types, strict=True):
        if wanted is not object and type(field) is not wanted:
            raise Malformed(f"expected {wanted.__name__}, got {type(field).__name__}")
    return value
