"""What the key-value enclave answers: the results of a mail's operations (:mod:`wire.kv`) in its reply's payload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wire.codec import expect, pack, unpack
from wire.errors import Malformed
from wire.kv import (
    NAMES,
    NOTHING,
    Arrived,
    Delete,
    Get,
    Import,
    Install,
    Operation,
    Page,
    PartitionScan,
    Purge,
    Put,
    Result,
    Scan,
    Shards,
    ShardStatus,
    Size,
    Swap,
    Usage,
    flat,
    pairs,
)
from wire.limits import MAX_BODY_BYTES, MAX_OPERATIONS


def encode_results(results: Sequence[Result]) -> bytes:
    """A reply's payload."""
    return pack([_encode_result(result) for result in results])


def _encode_result(result: Result) -> Any:
    # Of the others, a named tuple is packed as the array of its fields.
    return [flat(result.entries), result.next] if isinstance(result, Page) else result


def decode_results(payload: bytes | None, operations: Sequence[Operation]) -> list[Result]:
    """The results of these operations. Raises :class:`Malformed`."""
    if payload is None:
        raise Malformed("the enclave answered nothing: it is not the key-value enclave")
    fields = unpack(payload, MAX_BODY_BYTES, max_arrays=2 * MAX_OPERATIONS + 1)
    if type(fields) is not list or len(fields) != len(operations):
        raise Malformed(f"expected {len(operations)} results")
    return [_decode_result(operation, field) for operation, field in zip(operations, fields, strict=True)]


def _decode_result(operation: Operation, field: Any) -> Result:
    match operation:
        case Get():
            allowed: tuple[type, ...] = (bytes, NOTHING)
        case Put():
            allowed = (NOTHING,)
        case Delete() | Swap() | Install() | Purge():
            allowed = (bool,)
        case Scan() | PartitionScan():
            return _decode_page(field)
        case Shards():
            return _decode_status(field)
        case Import():
            return _decode_arrived(field)
        case Size():
            return Usage(*expect(field, int, int, int))
    if type(field) not in allowed:
        raise Malformed(f"a result of type {type(field).__name__} for a {NAMES[type(operation)]}")
    result: Result = field
    return result


def _decode_page(field: Any) -> Page:
    flattened, following = expect(field, list, object)
    if following is not None and type(following) is not str:
        raise Malformed("the key to go on from is a str or nil")
    return Page(pairs(flattened), following)


def _decode_status(field: Any) -> ShardStatus:
    signed, residue, arrived = expect(field, object, bool, object)
    if signed is not None and type(signed) is not bytes:
        raise Malformed("a shard map is bytes or nil")
    return ShardStatus(signed, residue, None if arrived is None else _decode_arrived(arrived))


def _decode_arrived(field: Any) -> Arrived:
    version, last, entries, digest = expect(field, int, object, int, bytes)
    if last is not None and type(last) is not str:
        raise Malformed("the last key is a str or nil")
    return Arrived(version, last, entries, digest)
