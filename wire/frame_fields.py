"""Fields of the messages between a host and its enclave process: their types and bounds.

Every function raises :class:`Malformed`. What comes once for each mail is checked in columns: over all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from wire.codec import expect
from wire.errors import Malformed
from wire.limits import MAX_TREE_SIZE

_Kind = TypeVar("_Kind")


def kinds_of(known: dict[int, _Kind], numbers: Sequence[int]) -> list[_Kind]:
    """The members of an enumeration that these numbers stand for."""
    try:
        return [known[number] for number in numbers]
    except KeyError as error:
        raise Malformed(f"no such kind: {error}") from None


def columns(rows: list[Any], *types: type) -> Sequence[Sequence[Any]]:
    """Rows of exactly these types, transposed; ``object`` stands for any type."""
    if not rows:
        return ((),) * len(types)
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(types)}:
        raise Malformed(f"expected arrays of {len(types)} fields")
    transposed = list(zip(*rows, strict=True))
    for column, wanted in zip(transposed, types, strict=True):
        if wanted is not object and set(map(type, column)) != {wanted}:
            raise Malformed(f"expected {wanted.__name__} in each row")
    return transposed


def check_numbers(numbers: Sequence[int], most: int) -> None:
    """Refuse numbers below 0 or above ``most``."""
    if numbers and not 0 <= min(numbers) <= max(numbers) <= most:
        raise Malformed("a number out of range")


def commit_number(value: int) -> int:
    """``value``, if it can be the number of a commit, or 0."""
    if not 0 <= value <= MAX_TREE_SIZE:
        raise Malformed("a number out of range")
    return value


def as_bytes(value: object) -> bytes:
    """``value``, if it is bytes."""
    if type(value) is not bytes:
        raise Malformed(f"expected bytes, got {type(value).__name__}")
    return value


def optional_bytes(value: object) -> bytes | None:
    """``value``, if it is bytes or None."""
    return None if value is None else as_bytes(value)


def each_bytes(values: list[Any]) -> list[bytes]:
    """``values``, if all of them are bytes."""
    for value in values:
        as_bytes(value)
    return values


def one_message(fields: Any, max_bytes: int) -> tuple[bytes]:
    """The one field of a message that carries another, of at most ``max_bytes``."""
    (message,) = expect(fields, bytes)
    if len(message) > max_bytes:
        raise Malformed(f"a message of {len(message)} bytes; at most {max_bytes} are allowed")
    return (message,)
