"""What clients say to the ready-made key-value enclave: operations in a mail's body, results in its reply.

A body is a msgpack array of operations, each an array of its name and its arguments; together they are one
transaction. The payload is the array of their results, in the same order::

    ["get", key]                               value | nil
    ["put", key, value]                        nil
    ["delete", key]                            bool: was it there?
    ["cas", key, expected | nil, new | nil]    true; nil stands for "no such entry"
    ["scan", start, stop | nil, limit, bytes]  [[key, value, key, value, ...], next key | nil]
    ["size"]                                   [entries, bytes in use, bytes at most]

Of a store that is one of several (:mod:`wire.shard_map`)::

    ["shards"]                                 [signed map | nil, residue, arrival | nil]
    ["install", signed map]                    bool: did it change anything?
    ["pscan", partitions, start, stop | nil, limit, bytes]   as for "scan"
    ["import", version, [key, value, ...]]     arrival
    ["purge", limit]                           bool: is anything left?
    arrival = [version, last key | nil, entries, digest(32)]

A compare-and-swap that does not find what it expects undoes the whole mail; the failure's text then says which
operation it was (:func:`swap_failed_text`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from wire.codec import expect, pack, unpack
from wire.errors import InvalidInput, LimitExceeded, MailTooLarge, Malformed
from wire.limits import (
    MAX_BODY_BYTES,
    MAX_EXAMINED_KEYS,
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_PAGE_ENTRIES,
    MAX_SHARD_MAP_BYTES,
    MAX_STORED_VALUE_BYTES,
)

NOTHING: Final = type(None)
_SWAP_FAILED: Final = re.compile(r"compare-and-swap failed at operation (0|[1-9][0-9]{0,5})")


class Get(NamedTuple):
    """Read one entry."""

    key: str


class Put(NamedTuple):
    """Write one entry."""

    key: str
    value: bytes


class Delete(NamedTuple):
    """Remove one entry, if it is there."""

    key: str


class Swap(NamedTuple):
    """Write (or, with ``new`` None, remove) an entry if its value is ``expected`` (None: if there is no such entry)."""

    key: str
    expected: bytes | None
    new: bytes | None


class Scan(NamedTuple):
    """Entries with ``start <= key < stop`` (None: no bound) in order.

    At most ``limit`` of them, and no more than ``budget`` bytes of keys and values, but at least one.
    """

    start: str
    stop: str | None
    limit: int
    budget: int


class Size(NamedTuple):
    """How much is in the map."""


class Shards(NamedTuple):
    """What does the store know of shards?"""


class Install(NamedTuple):
    """Take the next shard map."""

    signed: bytes


class PartitionScan(NamedTuple):
    """As :class:`Scan`, but of these partitions only (:func:`wire.shard_map.encode_partitions`), all of them owned."""

    partitions: bytes
    start: str
    stop: str | None
    limit: int
    budget: int


class Import(NamedTuple):
    """Take entries, in the order of their keys, that the move of the shard map of this version brings."""

    version: int
    entries: list[tuple[str, bytes]]


class Purge(NamedTuple):
    """Remove entries that are no longer this store's; look at ``limit`` keys at most."""

    limit: int


class Arrived(NamedTuple):
    """How much the move of the shard map of this version has brought so far: the last key, the number of entries, and
    the digest over them (:func:`wire.shard_map.arrival_digest`)."""

    version: int
    last: str | None
    entries: int
    digest: bytes


class ShardStatus(NamedTuple):
    """``residue``: whether there are entries to be removed."""

    signed: bytes | None
    residue: bool
    arrived: Arrived | None


class Page(NamedTuple):
    """What a scan found. ``next``: the key to go on from; None at the end."""

    entries: list[tuple[str, bytes]]
    next: str | None


class Usage(NamedTuple):
    """Counts of the map: entries, bytes in use, and bytes that it may hold."""

    entries: int
    used_bytes: int
    max_bytes: int


KeyOperation: TypeAlias = Get | Put | Delete | Swap
ShardOperation: TypeAlias = Shards | Install | PartitionScan | Import | Purge
Operation: TypeAlias = KeyOperation | Scan | Size | ShardOperation
Result: TypeAlias = bytes | bool | Page | Usage | ShardStatus | Arrived | None

NAMES: Final[dict[type, str]] = {
    Get: "get",
    Put: "put",
    Delete: "delete",
    Swap: "cas",
    Scan: "scan",
    Size: "size",
    Shards: "shards",
    Install: "install",
    PartitionScan: "pscan",
    Import: "import",
    Purge: "purge",
}


def encode_operations(operations: Sequence[Operation]) -> bytes:
    """A mail's body.

    Raises:
        InvalidInput: no operations at all, or a key, value or bound that cannot be one.
        LimitExceeded: a key or value that is too long, or too many operations.
        MailTooLarge: all of them together are too long for a mail.
    """
    if not operations:
        raise InvalidInput("a mail to the key-value enclave has at least one operation")
    if len(operations) > MAX_OPERATIONS:
        raise LimitExceeded(f"{len(operations)} operations in one mail; at most {MAX_OPERATIONS} are allowed")
    for operation in operations:
        _check(operation)
    body = pack([_encode_operation(operation) for operation in operations])
    if len(body) > MAX_BODY_BYTES:
        raise MailTooLarge(f"operations of {len(body)} bytes; one mail holds {MAX_BODY_BYTES}: send them in several")
    return body


def _encode_operation(operation: Operation) -> list[Any]:
    if isinstance(operation, Import):
        return ["import", operation.version, flat(operation.entries)]
    return [NAMES[type(operation)], *operation]


def decode_operations(untrusted: bytes) -> list[Operation]:
    """A mail's operations. Raises :class:`Malformed` and :class:`LimitExceeded`."""
    # An operation is one array, and an import brings its entries in a second one.
    fields = unpack(untrusted, MAX_BODY_BYTES, max_items=2 * MAX_OPERATIONS, max_arrays=2 * MAX_OPERATIONS + 1)
    if type(fields) is not list or not fields:
        raise Malformed("a mail to the key-value enclave is an array of operations")
    if len(fields) > MAX_OPERATIONS:
        raise Malformed(f"a mail to the key-value enclave has at most {MAX_OPERATIONS} operations")
    try:
        return [_decode_operation(one) for one in fields]
    except InvalidInput as error:
        raise Malformed(str(error)) from error


def _decode_operation(fields: Any) -> Operation:
    name = fields[0] if type(fields) is list and fields else None
    if name == "put":  # most mails: without the detour over all kinds
        _, key, value = expect(fields, str, str, bytes)
        _check_key(key)
        _check_value(value)
        return Put(key, value)
    operation = _decode_other_operation(name, fields)
    _check(operation)
    return operation


def _decode_other_operation(name: object, fields: Any) -> Operation:
    match name:
        case "get":
            return Get(expect(fields, str, str)[1])
        case "delete":
            return Delete(expect(fields, str, str)[1])
        case "cas":
            return Swap(*expect(fields, str, str, object, object)[1:])
        case "scan":
            return Scan(*expect(fields, str, str, object, int, int)[1:])
        case "size":
            expect(fields, str)
            return Size()
        case _:
            return _decode_shard_operation(name, fields)


def _decode_shard_operation(name: object, fields: Any) -> ShardOperation:
    match name:
        case "shards":
            expect(fields, str)
            return Shards()
        case "install":
            return Install(expect(fields, str, bytes)[1])
        case "pscan":
            return PartitionScan(*expect(fields, str, bytes, str, object, int, int)[1:])
        case "import":
            _, version, flattened = expect(fields, str, int, list)
            return Import(version, pairs(flattened))
        case "purge":
            return Purge(expect(fields, str, int)[1])
    raise Malformed("no such operation")


def _check(operation: Operation) -> None:
    """Types, lengths and ranges of one operation. Raises :class:`InvalidInput` and :class:`LimitExceeded`."""
    match operation:
        case Get(key) | Delete(key):
            _check_key(key)
        case Put(key, value):
            _check_key(key)
            _check_value(value)
        case Swap(key, expected, new):
            _check_key(key)
            for optional in (expected, new):
                if optional is not None:
                    _check_value(optional)
        case Scan(start, stop, limit, budget) | PartitionScan(_, start, stop, limit, budget):
            _check_key(start)
            if stop is not None:
                _check_key(stop)
            if type(limit) is not int or not 1 <= limit <= MAX_PAGE_ENTRIES:
                raise InvalidInput(f"a scan's limit is a number of entries from 1 to {MAX_PAGE_ENTRIES}")
            if type(budget) is not int or not 1 <= budget <= MAX_BODY_BYTES:
                raise InvalidInput(f"a scan's budget is a number of bytes from 1 to {MAX_BODY_BYTES}")
        case Size() | Shards():
            pass
        case Install(signed):
            if type(signed) is not bytes or len(signed) > MAX_SHARD_MAP_BYTES:
                raise LimitExceeded(f"a shard map has at most {MAX_SHARD_MAP_BYTES} bytes")
        case Import(version, entries):
            if type(version) is not int or not entries or len(entries) > MAX_OPERATIONS:
                raise InvalidInput(f"an import has a version, and 1 to {MAX_OPERATIONS} entries")
            for key, value in entries:
                _check_key(key)
                _check_value(value)
        case Purge(limit):
            if type(limit) is not int or not 1 <= limit <= MAX_EXAMINED_KEYS:
                raise InvalidInput(f"a purge looks at 1 to {MAX_EXAMINED_KEYS} keys")
        case _:
            raise InvalidInput(f"not an operation: a {type(operation).__name__}")


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise InvalidInput(f"a key is a str, not {type(key).__name__}")
    try:
        key_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("a key must have a form in UTF-8, so it cannot hold lone surrogates") from error
    if key_bytes > MAX_KEY_BYTES:
        raise LimitExceeded(f"a key may have {MAX_KEY_BYTES} bytes of UTF-8, this one has {key_bytes}")


def _check_value(value: object) -> None:
    if type(value) is not bytes:
        raise InvalidInput(f"a value is bytes, not {type(value).__name__}")
    if len(value) > MAX_STORED_VALUE_BYTES:
        raise LimitExceeded(f"a value may have {MAX_STORED_VALUE_BYTES} bytes, this one has {len(value)}")


def flat(entries: Sequence[tuple[str, bytes]]) -> list[Any]:
    """Keys, each followed by its value."""
    return [part for entry in entries for part in entry]


def pairs(flattened: list[Any]) -> list[tuple[str, bytes]]:
    """Undo :func:`flat`. Raises :class:`Malformed`."""
    keys, values = flattened[::2], flattened[1::2]
    if len(keys) != len(values) or not {type(key) for key in keys} <= {str} or not {type(v) for v in values} <= {bytes}:
        raise Malformed("entries are an array of keys, each followed by its value")
    return list(zip(keys, values, strict=True))


def swap_failed_text(position: int) -> str:
    """The text of a failure: the compare-and-swap at this place of the mail (from 0) did not find what it expected."""
    return f"compare-and-swap failed at operation {position}"


def failed_swap(text: str) -> int | None:
    """The place that such a text names; None for any other text."""
    match = _SWAP_FAILED.fullmatch(text)
    return None if match is None else int(match[1])


def after_prefix(prefix: str) -> str | None:
    """The smallest key after all keys that start with ``prefix``; None if there is none. Order is by code point."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code == 0xD800:
            code = 0xE000  # surrogates are no characters: no key holds one
        if code <= 0x10FFFF:
            return prefix[: end - 1] + chr(code)
    return None
