"""Many stores behind one client: a sharded client over four stores beside the same client over one.

``python -m benchmarks.shards URL...`` founds a cluster of the empty stores at these addresses and answers questions
``{"work": "batches" | "mails", "seconds": s}``. *batches*: one client, one batch of puts after the other, split over
the stores. *mails*: as many tasks as the other figures of mails have clients, each with a put a mail and a topic of its
own. Client states are in memory, as those of the load generator are (:mod:`benchmarks.load`).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child, children_of, cpu_seconds, questions, tell
from benchmarks.measure import Figure, figure, quartiles, quotients
from benchmarks.scale import CLIENTS, Scale
from benchmarks.stores import scratch
from benchmarks.workload import names, values
from client import EnclaveClient
from client.demo.server import HostProcess
from client.sharded import AsyncShardedKeyValueClient, Cluster, Mover, ShardedKeyValueClient
from wire.crypto import SigningKey
from wire.kv import Operation, Put
from wire.shard_map import ShardMap, ShardStore, shard_map_text, sign_shard_map

STORES: Final = 4
PARTITIONS: Final = 1024
BATCH: Final = 4_000
"""Puts in one batch: with four stores about a thousand in each mail."""
_KEYS: Final = 20_000
BATCHES: Final = "batches"
MAILS: Final = "mails"
_OWNER: Final = SigningKey(bytes(range(32)))
_SETTINGS: Final[dict[str, Any]] = {"constraint": "SEC:INSECURE"}


def shard_figures(scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """``shard_batch_speedup`` and ``shard_mail_speedup``; beside them CPU, and so what bounds each."""
    with scratch() as folder, ExitStack() as stack:
        contenders = {count: _Contender.start(folder / str(count), count, stack) for count in (1, STORES)}
        rounds: dict[tuple[int, str], list[dict[str, float]]] = {}
        for work in (BATCHES, MAILS):
            for contender in contenders.values():
                contender.round(work, scale.mail_seconds / 10)
            for number in range(scale.mail_rounds):
                for count in contenders if number % 2 == 0 else reversed(contenders):
                    rounds.setdefault((count, work), []).append(contenders[count].round(work, scale.mail_seconds))
    return [_figure("shard_batch_speedup", BATCHES, rounds), _figure("shard_mail_speedup", MAILS, rounds)], {}


@dataclass
class _Contender:
    """A client's process, and the hosts and enclaves behind it."""

    child: Child
    hosts: list[int]

    @classmethod
    def start(cls, folder: Path, count: int, stack: ExitStack) -> _Contender:
        """So many stores, each with a host's and an enclave's process."""
        servers = [stack.enter_context(HostProcess(folder / str(number))) for number in range(count)]
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(HostProcess.start, servers))
        child = stack.enter_context(Child("benchmarks.shards", *(server.url for server in servers)))
        child.answer()
        return cls(child, [server.pid for server in servers])

    def round(self, work: str, seconds: float) -> dict[str, float]:
        """One round: puts/s, and of each kind of process the CPU time of one put and the cores that it kept busy."""
        enclaves = [pid for host in self.hosts for pid in children_of(host)]
        watched = {"client": [self.child.pid], "hosts": self.hosts, "enclaves": enclaves}
        before = {kind: sum(map(cpu_seconds, pids)) for kind, pids in watched.items()}
        found: dict[str, float] = self.child.ask(work=work, seconds=seconds)
        for kind, pids in watched.items():
            used = sum(map(cpu_seconds, pids)) - before[kind]
            found[f"µs of CPU a put, {kind}"] = 1e6 * used / found["puts"]
            found["cores kept busy"] = found.get("cores kept busy", 0) + used / found["seconds"]
        return found


def _figure(name: str, work: str, rounds: dict[tuple[int, str], list[dict[str, float]]]) -> Figure:
    one, many = rounds[1, work], rounds[STORES, work]
    details: dict[str, Any] = {}
    for count, each in ((1, one), (STORES, many)):
        for what in ("puts_per_s", *(key for key in each[0] if "CPU" in key or "cores" in key)):
            details[f"{what}, {count} store{'s' * (count > 1)}"] = quartiles([found[what] for found in each])[1]
    speedups = quotients([each["puts_per_s"] for each in many], [each["puts_per_s"] for each in one])
    return figure(name, speedups, details)


# --- the child ---------------------------------------------------------------------------------------------


def found_cluster(urls: list[str]) -> str:
    """A new cluster of empty stores, and the text of its map."""
    stores = []
    for url in urls:
        with EnclaveClient.connect(url, **_SETTINGS) as client:
            stores.append(ShardStore(client.store_id, client.checkpoint_key, url))
    first = ShardMap.found(_OWNER.public, bytes(16), stores, PARTITIONS)
    text = shard_map_text(sign_shard_map(_OWNER, first))
    with Cluster.open(_OWNER.public.hex(), text, **_SETTINGS) as cluster:
        Mover(cluster, _OWNER).settle()
    return text


def _batches(kv: ShardedKeyValueClient, batches: itertools.cycle[list[Operation]], seconds: float) -> int:
    until, puts = time.perf_counter() + seconds, 0
    while puts == 0 or time.perf_counter() < until:
        puts += len(kv.execute(next(batches)))
    return puts


async def _mails(kv: AsyncShardedKeyValueClient, seconds: float) -> int:
    until, keys = time.perf_counter() + seconds, names(_KEYS)

    async def work(number: int) -> int:
        own, value, puts = kv.on_topic(f"task-{number}"), values(), 0
        for key in itertools.cycle(keys[number::CLIENTS]):
            await own.put(key, value())
            puts += 1
            if time.perf_counter() >= until:
                break
        return puts

    return sum(await asyncio.gather(*(work(number) for number in range(CLIENTS))))


async def _serve(text: str) -> None:
    value, keys = values(), names(_KEYS)
    made: list[list[Operation]] = [
        [Put(key, value()) for key in keys[start : start + BATCH]] for start in range(0, _KEYS, BATCH)
    ]
    batches = itertools.cycle(made)
    owner = _OWNER.public.hex()
    with ShardedKeyValueClient.connect(owner, text, **_SETTINGS) as kv:
        async with await AsyncShardedKeyValueClient.connect(owner, text, **_SETTINGS) as tasks:
            tell("ready")
            for question in questions():
                start, seconds = time.perf_counter(), question["seconds"]
                puts = _batches(kv, batches, seconds) if question["work"] == BATCHES else await _mails(tasks, seconds)
                took = time.perf_counter() - start
                tell({"puts": puts, "seconds": took, "puts_per_s": puts / took})


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    import uvloop

    uvloop.run(_serve(found_cluster(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
