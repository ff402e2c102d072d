"""Strict CBOR (RFC 8949): the one module that imports ``cbor2``, which comes with the extra ``attestation``.

Nitro enclaves speak it. Bytes from somebody else are bounded first, and must encode back to the very same bytes:
that leaves no room for repeated map keys, indefinite lengths or numbers in longer forms.
"""

from __future__ import annotations

from typing import Any

from wire.errors import Malformed, TeeUnavailable

MAX_DEPTH = 8  # arrays and maps inside each other


def pack_cbor(value: Any) -> bytes:
    """Encode null, bool, int, str, bytes, lists and dicts of them, dicts in their own order."""
    packed: bytes = _library().dumps(value)
    return packed


def unpack_cbor(untrusted: bytes, max_bytes: int) -> Any:
    """Decode. Raises :class:`Malformed`: too long, not CBOR, tagged, or not in the shortest form."""
    if len(untrusted) > max_bytes:
        raise Malformed(f"{len(untrusted)} bytes where at most {max_bytes} are allowed")
    library = _library()
    try:
        value = library.loads(untrusted)
        _check(value, MAX_DEPTH)
        canonical: bytes = library.dumps(value)
    except (library.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError, EOFError) as error:
        raise Malformed("not CBOR of the expected kind") from error
    if canonical != untrusted:
        raise Malformed("not the shortest CBOR encoding")
    return value


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise Malformed("CBOR nested too deeply")
    if type(value) is list:
        for item in value:
            _check(item, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) not in (int, str):
                raise Malformed("CBOR with a map key of an unknown type")
            _check(item, depth - 1)
    elif value is not None and type(value) not in (bool, int, str, bytes):
        raise Malformed("CBOR with a type that the format does not have")


def _library() -> Any:
    try:
        import cbor2
    except ImportError as error:
        raise TeeUnavailable("Nitro evidence needs the package cbor2: install pmap[attestation]") from error
    return cbor2
