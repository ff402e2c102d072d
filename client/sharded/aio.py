"""The sharded client for asyncio: :mod:`client.sharded.cluster` and :mod:`client.sharded.kv` with coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

from client.aio import AsyncEnclaveClient
from client.aio_transport import AsyncHttpTransport, AsyncTransport
from client.kv_aio import AsyncKeyValueClient
from client.sharded.keeping import Keeping, check_document, check_store
from client.sharded.router import MOVING_DELAYS, Ask, Keep, Outcome, Pause, Router, Steps
from client.sharded.scan import ShardScan
from wire.errors import FreshnessError, InvalidInput, PmapError, StoreReplaced
from wire.kv import Operation, Result, Usage
from wire.shard_map import ShardMap, ShardStore, parse_shard_map_text

_T = TypeVar("_T")


class AsyncCluster:
    """All stores of a shard map, for the tasks of one event loop. Methods as in :class:`client.sharded.Cluster`."""

    def __init__(
        self, keeping: Keeping, reach: Callable[[ShardStore], AsyncTransport], settings: dict[str, Any]
    ) -> None:
        self.router: Router = keeping.router
        self._keeping = keeping
        self._reach = reach
        self._settings = settings
        self._clients: dict[tuple[bytes, str], asyncio.Task[AsyncEnclaveClient]] = {}
        self._closed = False

    @classmethod
    def open(
        cls,
        owner: str,
        shard_map: str | None = None,
        *,
        folder: str | PathLike[str] | None = None,
        reach: Callable[[ShardStore], AsyncTransport] | None = None,
        moving_delays: Sequence[float] = MOVING_DELAYS,
        **settings: Any,
    ) -> Self:
        """See :meth:`client.sharded.cluster.Cluster.open`."""
        if "state" in settings or "invite" in settings:
            raise InvalidInput("a sharded client has a state for each store: give a folder")
        return cls(Keeping.open(folder, owner, shard_map, moving_delays), reach or _by_http, settings)

    def show(self, shard_map: str) -> None:
        """See :meth:`client.sharded.cluster.Cluster.show`."""
        self._keeping.show(parse_shard_map_text(shard_map))

    async def client(self, store: bytes) -> AsyncEnclaveClient:
        """The client of one store (its id), connected."""
        if self._closed:
            raise InvalidInput("this client is closed")
        shards = self.router.shards
        place = shards.place_of(store)
        if place is None:
            raise InvalidInput(f"store {store.hex()} is not in shard map {shards.version}")
        named = shards.stores[place]
        connecting = self._clients.get((store, named.url))
        if connecting is None or (connecting.done() and (connecting.cancelled() or connecting.exception() is not None)):
            old = [self._clients.pop(key) for key in [*self._clients] if key[0] == store]
            connecting = self._clients[store, named.url] = asyncio.create_task(self._connect(named, old))
        # A task of its own: whoever waits may be cancelled, and the others go on waiting.
        return await asyncio.shield(connecting)

    async def run(self, steps: Steps[_T], topic: str) -> _T:
        """Carry out an operation, its mails over this topic of each store."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._perform(wanted, topic))
        except StopIteration as stop:
            done: _T = stop.value
            return done

    async def _perform(self, wanted: list[Ask] | Pause | Keep, topic: str) -> list[Outcome]:
        match wanted:
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Keep(signed):
                await asyncio.to_thread(self._keeping.write, signed)
            case _:
                return list(await asyncio.gather(*(self._ask(ask, topic) for ask in wanted)))
        return []

    async def _ask(self, ask: Ask, topic: str) -> Outcome:
        try:
            client = await self.client(ask.store)
            outcome: Outcome = await AsyncKeyValueClient(client, topic).execute(ask.operations)
        except PmapError as error:
            outcome = error
        return self.router.noted(ask, outcome)

    async def _connect(self, store: ShardStore, old: list[asyncio.Task[AsyncEnclaveClient]]) -> AsyncEnclaveClient:
        for client in await asyncio.gather(*old, return_exceptions=True):
            if isinstance(client, AsyncEnclaveClient):
                await client.close()  # it lives elsewhere by now; its state goes on there
        transport = self._reach(store)
        try:
            check_document(store, await transport.attestation())
            state = self._keeping.state_of(store.store_id)
            client = await AsyncEnclaveClient.connect(transport, state=state, **self._settings)
        except BaseException:
            await transport.close()
            raise
        try:
            check_store(store, client.store_id, client.checkpoint_key)
        except StoreReplaced:
            await client.close()
            raise
        return client

    async def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        connecting, self._clients, self._closed = list(self._clients.values()), {}, True
        try:
            for client in await asyncio.gather(*connecting, return_exceptions=True):
                if isinstance(client, AsyncEnclaveClient):
                    await client.close()
        finally:
            self._keeping.close()


class AsyncShardedKeyValueClient(AsyncKeyValueClient):
    """Each method is that of :class:`client.sharded.kv.ShardedKeyValueClient` of its name."""

    def __init__(self, cluster: AsyncCluster, topic: str = "default") -> None:
        self._cluster = cluster
        self._topic = topic

    @classmethod
    async def connect(  # type: ignore[override]  # not one host
        cls, owner: str, shard_map: str | None = None, *, topic: str = "default", **settings: Any
    ) -> Self:
        """The arguments are those of :meth:`client.sharded.cluster.Cluster.open`."""
        return cls(AsyncCluster.open(owner, shard_map, **settings), topic)

    def on_topic(self, topic: str) -> AsyncShardedKeyValueClient:
        """The same stores over another topic. Only one of them is to be closed."""
        return AsyncShardedKeyValueClient(self._cluster, topic)

    @property
    def shards(self) -> ShardMap:
        """The shard map that holds."""
        return self._cluster.router.shards

    @property
    def quarantined(self) -> dict[bytes, FreshnessError]:
        """Of each store that this client has caught (its id) the verdict."""
        return dict(self._cluster.router.quarantined)

    def show(self, shard_map: str) -> None:
        """See :meth:`client.sharded.cluster.Cluster.show`."""
        self._cluster.show(shard_map)

    async def refresh(self) -> None:
        """Take the newest shard map that any store has: also one that says where a store has gone."""
        await self._cluster.run(self._cluster.router.refresh(), self._topic)

    async def execute(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out operations: all of a store's in one mail, all of them or none. Their results, in order."""
        return await self._cluster.run(self._cluster.router.execute(operations), self._topic)

    async def scan(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None, limit: int | None = None
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Entries of all shards in order of their keys."""
        scan = ShardScan(self._cluster.router, start, stop, prefix, limit)
        while (entries := await self._cluster.run(scan.next(), self._topic)) is not None:
            for entry in entries:
                yield entry

    async def usage(self) -> Usage:
        """All stores' counts together. While a partition changes its owner, its entries may be missing in them."""
        return await self._cluster.run(self._cluster.router.usage(), self._topic)

    @property
    def _stores(self) -> int:
        return len(self.shards.stores)

    def __repr__(self) -> str:
        shards = self.shards
        return f"<{type(self).__name__} over {len(shards.stores)} stores by shard map {shards.version}>"

    async def close(self) -> None:
        """Close the clients of all stores."""
        await self._cluster.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            with suppress(PmapError):
                await self.close()


def _by_http(store: ShardStore) -> AsyncTransport:
    return AsyncHttpTransport(store.url)
