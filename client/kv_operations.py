"""What the synchronous and the asynchronous key-value client share: batches, paging, and how to split a long work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

from client.reply import MailFailed, Receipt
from wire.errors import HandlerFailed, InvalidInput, LimitExceeded
from wire.kv import (
    Delete,
    Get,
    Operation,
    Page,
    Put,
    Result,
    Scan,
    Size,
    Swap,
    Usage,
    after_prefix,
    encode_operations,
    failed_swap,
)
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_OPERATIONS, MAX_PAGE_ENTRIES, MIB, PAGE_BYTES
from wire.shard_refusals import shard_failure

MAIL_OPERATIONS: Final = 1000
"""Operations that are put into one mail where it is not the user who says what belongs together."""
MAIL_BYTES: Final = MIB
"""So many bytes of keys and values go into such a mail, unless one operation alone has more."""
assert MAIL_OPERATIONS <= MAX_OPERATIONS

Value = bytes | bytearray | memoryview
"""What may be stored. It is kept, and read back, as ``bytes``."""


class SwapFailed(HandlerFailed):
    """A compare-and-swap did not find what it expected, and everything in its mail was undone.

    ``position``: its place in the batch, from 0.
    """

    def __init__(self, position: int, receipt: Receipt) -> None:
        super().__init__(f"operation {position} of the batch, a compare-and-swap, did not find what it expected")
        self.position = position
        self.receipt = receipt


def failure_of(error: MailFailed) -> HandlerFailed:
    """The error for a failed batch."""
    position = failed_swap(str(error))
    if position is not None:
        return SwapFailed(position, error.receipt)
    return shard_failure(str(error)) or error


class Batch:
    """Operations that happen together or not at all. ``results`` is there once they have happened, in their order.

    Reads see what the operations before them wrote.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.results: list[Result] = []

    def get(self, key: str) -> Self:
        """Result: the value, or None."""
        return self._add(Get(key))

    def put(self, key: str, value: Value) -> Self:
        """Result: None."""
        return self._add(Put(key, stored(value)))

    def delete(self, key: str) -> Self:
        """Result: whether the key was there."""
        return self._add(Delete(key))

    def compare_and_swap(self, key: str, expected: Value | None, new: Value | None) -> Self:
        """Write ``new`` if the value is ``expected``; None stands for no entry. If it is not, the batch fails with
        :class:`SwapFailed`. Result: True."""
        return self._add(
            Swap(key, None if expected is None else stored(expected), None if new is None else stored(new))
        )

    def scan(self, start: str = "", stop: str | None = None, limit: int = MAX_PAGE_ENTRIES) -> Self:
        """Result: a :class:`wire.kv.Page`, of at most ``PAGE_BYTES``."""
        return self._add(Scan(start, stop, limit, PAGE_BYTES))

    def size(self) -> Self:
        """Result: a :class:`wire.kv.Usage`."""
        return self._add(Size())

    def __len__(self) -> int:
        return len(self.operations)

    def _add(self, operation: Operation) -> Self:
        self.operations.append(operation)
        return self


def usage_of(results: list[Result]) -> Usage:
    """The one result of a :class:`Size`."""
    (usage,) = results
    assert isinstance(usage, Usage), "a size's result is a usage"
    return usage


def value_of(result: Result) -> bytes | None:
    """The result of a :class:`Get`."""
    assert result is None or isinstance(result, bytes), "a get's result is a value"
    return result


class Paging:
    """A scan over more than one page. Each page is a mail of its own, so what changes in between shows."""

    def __init__(self, start: str | None, stop: str | None, prefix: str | None, limit: int | None) -> None:
        """``prefix`` excludes ``start`` and ``stop``. Raises :class:`InvalidInput`."""
        if prefix is not None and (start is not None or stop is not None):
            raise InvalidInput("a scan is over a prefix, or from a start to a stop")
        if limit is not None and limit < 0:
            raise InvalidInput(f"a limit is a number of entries, at least 0, not {limit}")
        self._next: str | None = prefix if prefix is not None else (start or "")
        self._stop = after_prefix(prefix) if prefix is not None else stop
        self._left = limit

    def operation(self) -> Scan | None:
        """What to ask for; None at the end."""
        if self._next is None or self._left == 0:
            return None
        limit = MAX_PAGE_ENTRIES if self._left is None else min(self._left, MAX_PAGE_ENTRIES)
        return Scan(self._next, self._stop, limit, PAGE_BYTES)

    def take(self, result: Result) -> list[tuple[str, bytes]]:
        """The entries of the answer."""
        assert isinstance(result, Page), "a scan's result is a page"
        self._next = result.next
        if self._left is not None:
            self._left -= len(result.entries)
        return result.entries


def stored(value: object) -> bytes:
    """A value as the bytes to keep. Raises :class:`TypeError`, as a mapping does."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, bytearray | memoryview):
        raise TypeError(f"a value is bytes, bytearray or memoryview, not {type(value).__name__}")
    return bytes(value)


def cannot_be_key(key: object) -> bool:
    """Whether no entry can have this key. Raises :class:`TypeError` for what is not even hashable, as ``dict`` does."""
    try:
        encode_operations([Get(key)])  # type: ignore[arg-type]  # that is the question
    except (InvalidInput, LimitExceeded):
        hash(key)
        return True
    return False


def puts(entries: Mapping[str, Value] | Iterable[tuple[str, Value]], named: Mapping[str, Value]) -> Iterator[Put]:
    """One put for each pair, in order."""
    pairs: Any = entries.items() if isinstance(entries, Mapping) else entries
    for key, value in [*pairs, *named.items()]:
        yield Put(key, stored(value))


def mails(operations: Iterable[Put | Delete], stores: int = 1) -> Iterator[list[Operation]]:
    """Split a long work into mails, or into what makes one mail for each of so many stores."""
    mail: list[Operation] = []
    size = 0
    for operation in operations:
        own = len(operation.key) + ENTRY_OVERHEAD_BYTES + (len(operation.value) if isinstance(operation, Put) else 0)
        if mail and (len(mail) >= stores * MAIL_OPERATIONS or size + own > stores * MAIL_BYTES):
            yield mail
            mail, size = [], 0
        mail.append(operation)
        size += own
    if mail:
        yield mail
