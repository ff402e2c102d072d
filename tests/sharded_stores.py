"""Several real stores (:class:`adversarial_host.AdversarialHost`), a shard map over them, and clients of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adversarial_host import AdversarialHost

from client import EnclaveClient, InProcessTransport, KeyValueClient
from client.aio_transport import AsyncInProcessTransport
from client.sharded import AsyncShardedKeyValueClient, Cluster, Mover, ShardedKeyValueClient
from pmap.kv import KeyValueEnclave
from wire.crypto import SigningKey
from wire.kv import Operation, Result
from wire.shard_map import ShardMap, ShardStore, partition_of, shard_map_text, sign_shard_map

OWNER = SigningKey(b"\x07" * 32)
PARTITIONS = 16
SETTINGS: dict[str, Any] = {"constraint": "SEC:INSECURE", "retry_delays": (0.0, 0.0)}


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory if there is one: for what is synced several times a mail, and does not depend on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def stores_of(count: int, **settings: Any) -> Iterator[Stores]:
    """Hosts in a folder of their own."""
    with memory_folder() as folder:
        stores = Stores(folder, count, **settings)
        try:
            yield stores
        finally:
            stores.close()


class Stores:
    """``count`` hosts in a folder, founded as one cluster unless said otherwise."""

    def __init__(self, folder: Path, count: int, *, found: bool = True, enclave: type = KeyValueEnclave) -> None:
        self.folder = folder
        self.enclave = enclave
        self.hosts: list[AdversarialHost] = []
        self.stores: list[ShardStore] = []
        self.first = self._even(count)
        self.text = shard_map_text(sign_shard_map(OWNER, self.first))
        if found:
            with self.cluster("mover") as cluster:
                Mover(cluster, OWNER).settle()

    def _even(self, count: int) -> ShardMap:
        """The first map over hosts each of which has its share, by and large: tests move parts of it."""
        while True:
            for _ in range(count):
                self.add_host()
            first = ShardMap.found(OWNER.public, b"\x01" * 16, self.stores, PARTITIONS)
            if min(map(len, first.owned)) >= PARTITIONS // count // 2:
                return first
            for host in self.hosts:
                host.close()
            self.hosts.clear()
            self.stores.clear()
            shutil.rmtree(self.folder)

    def add_host(self) -> ShardStore:
        number = len(self.hosts)
        (self.folder / str(number)).mkdir(parents=True)
        host = AdversarialHost(self.folder / str(number) / "store", self.enclave)
        with EnclaveClient.connect(InProcessTransport(host), **SETTINGS) as client:
            store = ShardStore(client.store_id, client.checkpoint_key, f"http://store-{number}.invalid")
        self.hosts.append(host)
        self.stores.append(store)
        return store

    def host_of(self, store: ShardStore) -> AdversarialHost:
        return self.hosts[[each.store_id for each in self.stores].index(store.store_id)]

    def reach(self, store: ShardStore) -> InProcessTransport:
        return InProcessTransport(self.host_of(store))

    def cluster(self, name: str | None = None, **settings: Any) -> Cluster:
        """What a sharded client stands on; ``name``: that of its folder."""
        folder = None if name is None else self.folder / f"client-{name}"
        kept = folder is not None and (folder / "shards.state").exists()
        settings = {"reach": self.reach, **SETTINGS, **settings}
        return Cluster.open(OWNER.public.hex(), None if kept else self.text, folder=folder, **settings)

    def client(self, name: str | None = None, **settings: Any) -> ShardedKeyValueClient:
        return ShardedKeyValueClient(self.cluster(name, **settings))

    async def async_client(self, **settings: Any) -> AsyncShardedKeyValueClient:
        settings = {"reach": lambda store: AsyncInProcessTransport(self.host_of(store)), **SETTINGS, **settings}
        return await AsyncShardedKeyValueClient.connect(OWNER.public.hex(), self.text, **settings)

    def plain(self, place: int) -> KeyValueClient:
        """A client of one store that knows nothing of shards."""
        return KeyValueClient.connect(InProcessTransport(self.hosts[place]), **SETTINGS)

    def ask(self, place: int, *operations: Operation) -> list[Result]:
        with self.plain(place) as client:
            return client.execute(operations)

    def close(self) -> None:
        for host in self.hosts:
            host.close()


def key_in(partitions: set[int], number: int = 0, total: int = PARTITIONS) -> str:
    """The ``number``-th key (k0, k1, ...) of one of these partitions."""
    found = 0
    for candidate in range(10_000):
        if partition_of(f"k{candidate}", total) in partitions:
            if found == number:
                return f"k{candidate}"
            found += 1
    raise AssertionError("too few keys were tried")


class Crash(Exception):
    """What a mover that dies raises."""


def crash_at(number: int) -> Callable[[str], None]:
    """A step function that lets the mover die at the n-th point, before or after something is done."""
    count = 0

    def step(_name: str) -> None:
        nonlocal count
        count += 1
        if count > number:
            raise Crash(_name)

    return step
