"""The map over all shards, as one mapping: :class:`client.kv.KeyValueClient` with many stores behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from client.kv import KeyValueClient
from client.sharded.cluster import Cluster
from client.sharded.scan import ShardScan
from wire.errors import FreshnessError
from wire.kv import Operation, Result, Usage
from wire.shard_map import ShardMap


class ShardedKeyValueClient(KeyValueClient):
    """Every method is that of :class:`KeyValueClient` of its name, with these differences.

    - A batch is split by store: what goes to one store happens together or not at all, and the others do not wait for
      it. If a store fails, :class:`client.sharded.router.ShardsFailed` says what became of each part.
    - While a partition moves, writes to it wait; :class:`PartitionMoving` is raised when they have waited too long.
    - A store that was caught raises its verdict from every operation that touches it: scans and counts do, as does a
      key of its partitions. The others go on; :attr:`quarantined` says which they are.
    """

    def __init__(self, cluster: Cluster, topic: str = "default") -> None:
        """``topic``: the stream of each store that the mails go over; threads with a topic each do not wait for each
        other."""
        self._cluster = cluster
        self._topic = topic

    @classmethod
    def connect(  # type: ignore[override]  # not one host
        cls, owner: str, shard_map: str | None = None, *, topic: str = "default", **settings: Any
    ) -> Self:
        """The arguments are those of :meth:`client.sharded.cluster.Cluster.open`."""
        return cls(Cluster.open(owner, shard_map, **settings), topic)

    def on_topic(self, topic: str) -> ShardedKeyValueClient:
        """The same stores over another topic. Only one of them is to be closed."""
        return ShardedKeyValueClient(self._cluster, topic)

    @property
    def shards(self) -> ShardMap:
        """The shard map that holds."""
        return self._cluster.router.shards

    @property
    def quarantined(self) -> dict[bytes, FreshnessError]:
        """Of each store that this client has caught (its id) the verdict."""
        return self._cluster.quarantined

    def show(self, shard_map: str) -> None:
        """See :meth:`client.sharded.cluster.Cluster.show`."""
        self._cluster.show(shard_map)

    def refresh(self) -> None:
        """Take the newest shard map that any store has: also one that says where a store has gone."""
        self._cluster.run(self._cluster.router.refresh(), self._topic)

    def execute(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out operations: all of a store's in one mail, all of them or none. Their results, in order."""
        return self._cluster.run(self._cluster.router.execute(operations), self._topic)

    def scan(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Entries of all shards in order of their keys; the rest as in :meth:`KeyValueClient.scan`."""
        return self._merged(ShardScan(self._cluster.router, start, stop, prefix, limit))

    def _merged(self, scan: ShardScan) -> Iterator[tuple[str, bytes]]:
        while (entries := self._cluster.run(scan.next(), self._topic)) is not None:
            yield from entries

    def usage(self) -> Usage:
        """All stores' counts together. While a partition changes its owner, its entries may be missing in them."""
        return self._cluster.run(self._cluster.router.usage(), self._topic)

    @property
    def _stores(self) -> int:
        return len(self.shards.stores)

    def __repr__(self) -> str:
        shards = self.shards
        return f"<{type(self).__name__} over {len(shards.stores)} stores by shard map {shards.version}>"

    def close(self) -> None:
        """Close the clients of all stores."""
        self._cluster.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.__exit__(kind, error, trace)
