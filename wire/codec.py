"""Strict msgpack: the one module that imports ``msgpack``.

msgpack is not canonical (integers in longer forms, repeated map keys), so bytes from somebody else
are bounded first, decoded with every limit set, and must encode back to the very same bytes.
Only nil, bool, int, str, bytes and arrays of them exist here: no maps and extensions, and a float, which alone is
no format's field, passes no :func:`expect`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import msgpack

from wire.errors import Malformed

_packer_errors = (ValueError, TypeError, OverflowError)
_unpack_errors = (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError)
MAX_ARRAY_ITEMS: Final = 1_000_000


def _new_packer() -> msgpack.Packer:
    return msgpack.Packer(use_bin_type=True)


class _Local(threading.local):
    """A packer for each thread: making one costs more than what it packs."""

    def __init__(self) -> None:
        self.packer = _new_packer()


_local: Final = _Local()
_LARGE_BYTES: Final = 1 << 20
_UNCOUNTED_BYTES: Final = 1 << 14


def pack(value: Any) -> bytes:
    """Encode nil, bool, int, str, bytes and (nested) lists or tuples of them."""
    packed: bytes = _local.packer.pack(value)
    if len(packed) > _LARGE_BYTES:
        _local.packer = _new_packer()  # a packer keeps a buffer of the largest size that it ever needed
    return packed


def unpack(
    untrusted: bytes | memoryview, max_bytes: int, *, max_items: int = MAX_ARRAY_ITEMS, max_arrays: int = 1
) -> Any:
    """Decode bytes that may come from anybody.

    ``max_items`` bounds each array, ``max_arrays`` the number of all of them: one, unless said otherwise, because
    a byte of msgpack can be an empty array that takes 64 bytes of memory.

    Raises:
        Malformed: longer than ``max_bytes``, not msgpack, trailing bytes, a type outside the ones
            above, too many arrays or items, or not the canonical encoding of its value.
    """
    if len(untrusted) > max_bytes:
        raise Malformed(f"{len(untrusted)} bytes where at most {max_bytes} are allowed")
    arrays = 0

    def count(array: list[Any]) -> list[Any]:
        nonlocal arrays
        arrays += 1
        if arrays > max_arrays:
            raise ValueError("more arrays than the format has")
        return array

    # A small input cannot become a large value, and is counted afterwards; no more arrays than bytes come out of it.
    small = len(untrusted) <= (_UNCOUNTED_BYTES if max_arrays == 1 else max_arrays)
    value = _unpack(untrusted, max_items, None if small else count)
    if max_arrays == 1 and type(value) is list and list in map(type, value):
        raise Malformed("more arrays than the format has")
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
    return _unpack(data, max_items, None)


def _unpack(data: bytes | memoryview, max_items: int, on_array: Callable[[list[Any]], list[Any]] | None) -> Any:
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            list_hook=on_array,
            object_pairs_hook=_refuse_map,
            strict_map_key=True,
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=min(max_items, len(data)),
            max_map_len=0,
            max_ext_len=0,
        )
    except _unpack_errors as error:
        raise Malformed("not valid msgpack of the expected kind") from error


def _refuse_map(_: Any) -> Any:
    raise ValueError("the format has no maps")


def expect(value: Any, *types: type) -> list[Any]:
    """Check that ``value`` is an array of exactly these types (``NoneType`` by ``type(None)``).

    ``object`` stands for any type. Booleans do not pass for integers. Raises :class:`Malformed`.
    """
    if type(value) is list and tuple(map(type, value)) == types:
        return value
    if type(value) is not list or len(value) != len(types):
        raise Malformed(f"expected an array of {len(types)} fields")
    for field, wanted in zip(value, types, strict=True):
        if wanted is not object and type(field) is not wanted:
            raise Malformed(f"expected {wanted.__name__}, got {type(field).__name__}")
    return value
