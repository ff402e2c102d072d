"""Many enclaves behind one client: a key-value client over the stores of a shard map, and what moves partitions."""

from client.sharded.aio import AsyncCluster, AsyncShardedKeyValueClient
from client.sharded.cluster import Cluster
from client.sharded.kv import ShardedKeyValueClient
from client.sharded.mover import MoveFailed, Mover, plan
from client.sharded.router import ShardsFailed

__all__ = [
    "AsyncCluster",
    "AsyncShardedKeyValueClient",
    "Cluster",
    "MoveFailed",
    "Mover",
    "ShardedKeyValueClient",
    "ShardsFailed",
    "plan",
]
