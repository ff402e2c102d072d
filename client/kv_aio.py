"""The typed client of the key-value enclave for asyncio: :class:`client.kv.KeyValueClient` with coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from client.aio import AsyncEnclaveClient
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
from wire.kv import Delete, Get, Operation, Put, Result, Size, Usage, encode_operations
from wire.kv_results import decode_results

_MISSING: Final[Any] = object()


class AsyncKeyValueClient:
    """The map inside a key-value enclave. Each method is that of :class:`client.kv.KeyValueClient` of its name."""

    def __init__(self, client: AsyncEnclaveClient, topic: str = "default") -> None:
        """``topic``: the stream that the mails go over."""
        self.client = client
        self._topic = topic

    @classmethod
    async def connect(cls, host: str, *, topic: str = "default", **settings: Any) -> Self:
        """``settings`` are those of :meth:`client.aio.AsyncEnclaveClient.connect`."""
        return cls(await AsyncEnclaveClient.connect(host, **settings), topic)

    async def execute(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out operations in one mail, all or none, and return their results in order.

        Raises :class:`SwapFailed` if a compare-and-swap did not find what it expected.
        """
        body = encode_operations(operations)
        try:
            reply = await self.client.send(body, self._topic)
        except MailFailed as error:
            raise failure_of(error) from error
        return decode_results(reply.payload, operations)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Collect operations, and send them as one mail at the end, unless the block raises."""
        batch = Batch()
        yield batch
        if batch.operations:
            batch.results = await self.execute(batch.operations)

    async def get(self, key: str, default: bytes | None = None) -> bytes | None:
        """The value of ``key``, or ``default``."""
        if cannot_be_key(key):
            return default
        value = value_of(*await self.execute([Get(key)]))
        return default if value is None else value

    async def contains(self, key: str) -> bool:
        """Whether there is such an entry."""
        return await self.get(key) is not None

    async def put(self, key: str, value: Value) -> None:
        """Write one entry."""
        await self.execute([Put(key, stored(value))])

    async def delete(self, key: str) -> bool:
        """Remove one entry; was it there?"""
        return not cannot_be_key(key) and await self.execute([Delete(key)]) == [True]

    async def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove one entry and return its value, or ``default``; :class:`KeyError` without one."""
        value = None
        if not cannot_be_key(key):
            value = value_of((await self.execute([Get(key), Delete(key)]))[0])
        if value is not None:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    async def compare_and_swap(self, key: str, expected: Value | None, new: Value | None) -> bool:
        """Write ``new`` if the value is ``expected``, and tell whether it was. None stands for no entry."""
        try:
            await self.execute(Batch().compare_and_swap(key, expected, new).operations)
        except SwapFailed:
            return False
        return True

    async def scan(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None, limit: int | None = None
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Entries with ``start <= key < stop``, or with a prefix, in order of their keys; at most ``limit``."""
        paging = Paging(start, stop, prefix, limit)
        while (operation := paging.operation()) is not None:
            for entry in paging.take(*await self.execute([operation])):
                yield entry

    async def update(self, entries: Mapping[str, Value] | Iterable[tuple[str, Value]] = (), /, **named: Value) -> None:
        """Write many entries, in as few mails as needed; each mail happens as a whole, the update as such does not."""
        for mail in mails(puts(entries, named), self._stores):
            await self.execute(mail)

    async def clear(self) -> None:
        """Remove every entry that is there now; a page and a mail at a time."""
        keys = [key async for key, _ in self.scan()]
        for mail in mails((Delete(key) for key in keys), self._stores):
            await self.execute(mail)

    async def usage(self) -> Usage:
        """How many entries there are, and how full the map is, in bytes."""
        return usage_of(await self.execute([Size()]))

    async def size(self) -> int:
        """How many entries there are."""
        return (await self.usage()).entries

    @property
    def _stores(self) -> int:
        """How many stores a long work is spread over."""
        return 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of client {self.client.client_id[:16]}>"

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, trace)
