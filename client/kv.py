"""A typed client of the ready-made key-value enclave, which behaves like a mapping from ``str`` to ``bytes``."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, Sequence, ValuesView
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from client.kv_operations import (
    Batch,
    Paging,
    SwapFailed,
    Value,
    cannot_be_key,
    failure_of,
    mails,
    puts,
    stored,
    usage_of,
    value_of,
)
from client.reply import MailFailed
from client.sync import EnclaveClient
from wire.kv import Delete, Get, Operation, Put, Result, Size, Usage, encode_operations
from wire.kv_results import decode_results

_T = TypeVar("_T")
_MISSING: Final[Any] = object()


class KeyValueClient(MutableMapping[str, bytes]):
    """The map inside a key-value enclave. Every method is one mail, unless it says otherwise.

    What cannot be a key (not a ``str``, lone surrogates, too long) is never in the map: looking it up finds nothing,
    writing it raises. Beside what :meth:`client.sync.EnclaveClient.send` raises, writing raises :class:`TypeError`,
    :class:`InvalidInput` and :class:`LimitExceeded` for what the map cannot hold, and :class:`MailFailed` where
    it is full.
    """

    def __init__(self, client: EnclaveClient, topic: str = "default") -> None:
        """``topic``: the stream that the mails go over."""
        self.client = client
        self._topic = topic

    @classmethod
    def connect(cls, host: str, *, topic: str = "default", **settings: Any) -> Self:
        """``settings`` are those of :meth:`client.sync.EnclaveClient.connect`."""
        return cls(EnclaveClient.connect(host, **settings), topic)

    def execute(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out operations in one mail, all or none, and return their results in order.

        Raises :class:`SwapFailed` if a compare-and-swap did not find what it expected.
        """
        body = encode_operations(operations)
        try:
            reply = self.client.send(body, self._topic)
        except MailFailed as error:
            raise failure_of(error) from error
        return decode_results(reply.payload, operations)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect operations, and send them as one mail at the end, unless the block raises.

        ::

            with kv.batch() as batch:
                batch.put("a", b"1").delete("b")
            print(batch.results)
        """
        batch = Batch()
        yield batch
        if batch.operations:
            batch.results = self.execute(batch.operations)

    # --- one entry ---------------------------------------------------------------------------------------

    @overload
    def get(self, key: str, /) -> bytes | None: ...
    @overload
    def get(self, key: str, /, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, /, default: _T) -> bytes | _T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        if cannot_be_key(key):
            return default
        value = value_of(*self.execute([Get(key)]))
        return default if value is None else value

    def put(self, key: str, value: Value) -> None:
        """Write one entry."""
        self.execute([Put(key, stored(value))])

    def delete(self, key: str) -> bool:
        """Remove one entry; was it there?"""
        return not cannot_be_key(key) and self.execute([Delete(key)]) == [True]

    def compare_and_swap(self, key: str, expected: Value | None, new: Value | None) -> bool:
        """Write ``new`` if the value is ``expected``, and tell whether it was. None stands for no entry."""
        try:
            self.execute(Batch().compare_and_swap(key, expected, new).operations)
        except SwapFailed:
            return False
        return True

    def __getitem__(self, key: str) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __setitem__(self, key: str, value: Value) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    @overload
    def pop(self, key: str, /) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: bytes) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: _T) -> bytes | _T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """Remove one entry and return its value, or ``default``; :class:`KeyError` without one."""
        value = None
        if not cannot_be_key(key):
            value = value_of(self.execute([Get(key), Delete(key)])[0])
        if value is not None:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, bytes]:
        """Remove and return the first entry. Two mails, more while others change it. Raises :class:`KeyError`."""
        while True:
            for key, value in self.scan(limit=1):
                if self.compare_and_swap(key, value, None):
                    return key, value
                break
            else:
                raise KeyError("popitem(): the map is empty")

    def setdefault(self, key: str, default: Value | None = None, /) -> bytes:
        """The value of ``key``; if it is not there, ``default`` is stored first (and must be bytes-like then)."""
        while (value := self.get(key)) is None:
            if self.compare_and_swap(key, None, stored(default)):
                return stored(default)
        return value

    # --- many --------------------------------------------------------------------------------------------

    def scan(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Entries with ``start <= key < stop``, or with a prefix, in order of their keys; at most ``limit``.

        One mail for each page of up to ``PAGE_BYTES``: what others change in between shows.
        """
        return self._pages(Paging(start, stop, prefix, limit))

    def _pages(self, paging: Paging) -> Iterator[tuple[str, bytes]]:
        while (operation := paging.operation()) is not None:
            yield from paging.take(*self.execute([operation]))

    def update(self, entries: Any = (), /, **named: Value) -> None:
        """Write many entries, in as few mails as needed; each mail happens as a whole, the update as such does not."""
        for mail in mails(puts(entries, named), self._stores):
            self.execute(mail)

    def clear(self) -> None:
        """Remove every entry that is there now; a page and a mail at a time."""
        for mail in mails((Delete(key) for key, _ in self.scan()), self._stores):
            self.execute(mail)

    def usage(self) -> Usage:
        """How many entries there are, and how full the map is, in bytes."""
        return usage_of(self.execute([Size()]))

    def __len__(self) -> int:
        return self.usage().entries

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.scan())

    def values(self) -> ValuesView[bytes]:
        """The values in order of their keys, read by pages."""
        return _Values(self)

    def items(self) -> ItemsView[str, bytes]:
        """The entries in order of their keys, read by pages."""
        return _Items(self)

    @property
    def _stores(self) -> int:
        """How many stores a long work is spread over."""
        return 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of client {self.client.client_id[:16]}>"

    # --- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, trace)


class _Values(ValuesView[bytes]):
    _mapping: KeyValueClient

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping.scan())

    def __contains__(self, value: object) -> bool:
        return any(value == one for one in self)


class _Items(ItemsView[str, bytes]):
    _mapping: KeyValueClient

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping.scan()
