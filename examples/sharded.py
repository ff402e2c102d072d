"""Spread keys over several stores, and move them while they are used. Run it: python examples/sharded.py

Three hosts run in this process, each with an enclave of its own. With servers it would be their addresses:

    pmap shards create http://127.0.0.1:8081 http://127.0.0.1:8082
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from client import EnclaveClient, InProcessTransport
from client.sharded import Cluster, Mover, ShardedKeyValueClient, plan
from host_store.host import EnclaveHost
from pmap.kv import KeyValueEnclave
from wire.crypto import SigningKey
from wire.errors import StaleShardMap
from wire.shard_map import ShardMap, ShardStore, shard_map_text, sign_shard_map

PARTITIONS = 64  # for ever: some hundred for each store that there will ever be


def main() -> int:
    """Found a cluster of two stores, use it, add a third one, go on using it."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        hosts: dict[bytes, EnclaveHost] = {}

        def run_store(name: str) -> ShardStore:
            host = stack.enter_context(EnclaveHost.start(KeyValueEnclave, folder / name, in_process=True))
            with EnclaveClient.connect(InProcessTransport(host), constraint="SEC:INSECURE") as client:
                hosts[client.store_id] = host
                return ShardStore(client.store_id, client.checkpoint_key, f"https://{name}.example")

        def reach(store: ShardStore) -> InProcessTransport:
            return InProcessTransport(hosts[store.store_id])  # without this, clients go to the address in the map

        # Whoever has this key decides which store owns what. It reads and writes nothing itself.
        owner = SigningKey(os.urandom(32))
        first = ShardMap.found(owner.public, os.urandom(16), [run_store("one"), run_store("two")], PARTITIONS)
        text = shard_map_text(sign_shard_map(owner, first))
        settings = {"reach": reach, "constraint": "SEC:INSECURE"}

        cluster = stack.enter_context(Cluster.open(owner.public.hex(), text, folder=folder / "mover", **settings))
        mover = Mover(cluster, owner)
        mover.settle()  # gives the map to both stores

        with ShardedKeyValueClient.connect(owner.public.hex(), text, folder=folder / "alice", **settings) as entries:
            entries.update({f"account-{number:03}": b"100" for number in range(200)})
            entries["account-007"] = b"42"
            print("entries:", len(entries), "in order:", [key for key, _ in entries.scan(limit=3)])

            mover.add([run_store("three")])
            mover.settle()
            for partitions, target in plan(mover.shards):
                mover.begin_move(partitions, target)
                mover.settle()  # if anything dies in here, settle() again
            print("partitions of each store:", [len(owned) for owned in mover.shards.owned])

            # The client still has the first map. A store that is asked for what it no longer owns tells it of the next.
            print("account 7 has", entries["account-007"], "and all are there:", len(list(entries.scan())))
            print(f"the client went from map 1 to map {entries.shards.version}")
            try:
                entries.show(text)
            except StaleShardMap as verdict:
                print("refused:", verdict)
                return 0
    print("an old map was taken for the newest", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
