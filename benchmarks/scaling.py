"""A plan for many keys and many clients, computed and simulated from measured unit costs.

``python -m benchmarks.scaling`` reads ``unit_costs.json`` (made by :mod:`benchmarks.unit_costs`) and writes the tables
of docs/scaling.md. Nothing is timed here and every draw is seeded, so the same costs give the same tables.

What is simulated: one store's queue (mails that arrive at random wait for the host, then for the enclave, which takes
all that wait as one batch, then for the engine, as :mod:`host_store.supervisor` does it), and the spread of partitions
over stores by the very function that shard maps use. The rest is arithmetic.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import percentile
from benchmarks.report import BLOCK, number, table
from benchmarks.scale import CLIENTS
from benchmarks.unit_costs import BATCHES, COSTS
from host_store.supervisor import PIPELINE_BATCHES
from wire.limits import MAX_BATCH_MAILS, MAX_CLIENTS
from wire.shard_map import rendezvous

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
Costs = dict[str, float]
GIB: Final = 1 << 30

# --- what is assumed -----------------------------------------------------------------------------------
KEYS: Final = 10**9
ALL_CLIENTS: Final = 10**6
MAILS_PER_CLIENT_S: Final = 1 / 60
PEAK: Final = 3
"""The busiest minute against the mean."""
ENCLAVE_MEMORY_GIB: Final = 64
"""What a machine gives one enclave."""
LOAD: Final = 0.6
"""How much of its capacity a store is planned to use at the peak."""
RESTART_SECONDS: Final = 120
"""How long a store may take to come back."""
GATEWAYS: Final = 1_000
PARTITIONS: Final = 16_384
ENGINES: Final = {"LMDB on this disk": None, "1 ms": 1.0, "5 ms": 5.0, "20 ms": 20.0, "50 ms": 50.0}
"""Milliseconds until an engine has made a commit durable; None: as measured here."""
_SIMULATED_MAILS: Final = 20_000


# --- one store -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """One store's costs, in seconds."""

    host_mail: float
    enclave_commit: float
    enclave_mail: float
    append: float

    @classmethod
    def of(cls, costs: Costs, append_ms: float | None = None) -> Store:
        """From unit costs. A mail's part of the enclave is what was seen over HTTP, less a part of a commit as if all
        clients had shared each: frames between the processes are in it, and it is rather too much than too little."""
        commit = costs["enclave_commit_cpu_us"]
        mail = max(costs["enclave_mail_cpu_us"], costs["enclave_http_mail_cpu_us"] - commit / CLIENTS)
        append = costs["commit_here_ms"] if append_ms is None else append_ms
        return cls(1e-6 * costs["host_mail_cpu_us"], 1e-6 * commit, 1e-6 * mail, 1e-3 * append)

    @property
    def capacity(self) -> float:
        """Mails/s that its slower process can do: each has one core."""
        full = self.enclave_mail + self.enclave_commit / MAX_BATCH_MAILS
        return 1 / max(self.host_mail, full, self.append / MAX_BATCH_MAILS)


@dataclass(frozen=True)
class Behaviour:
    """What a simulated store did at one rate."""

    p50_ms: float
    p99_ms: float
    mails_per_commit: float
    commits_per_s: float


def simulate(store: Store, rate: float, mails: int = _SIMULATED_MAILS) -> Behaviour:
    """``mails`` that arrive at random, so many a second on average, through host, enclave and engine."""
    source = random.Random(1)
    arrived, at_enclave, now, host_free = [], [], 0.0, 0.0
    for _ in range(mails):
        now += source.expovariate(rate)
        host_free = max(now, host_free) + store.host_mail
        arrived.append(now)
        at_enclave.append(host_free)
    latencies, durable, enclave_free, first, batches = [], [0.0] * PIPELINE_BATCHES, 0.0, 0, 0
    while first < mails:
        begins = max(at_enclave[first], enclave_free, durable[-PIPELINE_BATCHES])
        last = first
        while last < mails and last - first < MAX_BATCH_MAILS and at_enclave[last] <= begins:
            last += 1
        enclave_free = begins + store.enclave_commit + (last - first) * store.enclave_mail
        durable.append(max(enclave_free, durable[-1]) + store.append)
        latencies += [durable[-1] - arrived[number] for number in range(first, last)]
        first, batches = last, batches + 1
    latencies.sort()
    took = durable[-1] - arrived[0]
    return Behaviour(
        1e3 * percentile(latencies, 0.5), 1e3 * percentile(latencies, 0.99), mails / batches, batches / took
    )


# --- all stores ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Demand:
    """What is asked of all stores together. ``speakers``: those who have a session with every store."""

    keys: int
    speakers: int
    peak_mails: float


def stores_needed(costs: Costs, demand: Demand) -> dict[str, int]:
    """The number of stores that each bound alone asks for."""
    per_key = costs["entry_bytes"] * costs["memory_per_live_byte"]
    free = ENCLAVE_MEMORY_GIB * GIB - demand.speakers * costs["client_memory_bytes"]
    live_mib = demand.keys * costs["entry_bytes"] / (1 << 20)
    hellos = demand.speakers * 1e-6 * costs["hello_cpu_us"]
    # After a restart every speaker says hello, to an enclave that has just replayed its part.
    replay = RESTART_SECONDS - hellos
    return {
        "memory": math.ceil(demand.keys * per_key / free),
        "rate": math.ceil(demand.peak_mails / (LOAD * Store.of(costs).capacity)),
        "restart": math.ceil(live_mib / costs["open_mib_per_cpu_s"] / replay) if replay > 0 else 0,
    }


DEMANDS: Final = {
    "each client speaks to every store": Demand(KEYS, ALL_CLIENTS, ALL_CLIENTS * MAILS_PER_CLIENT_S * PEAK),
    f"{GATEWAYS:,} gateways speak for them": Demand(KEYS, GATEWAYS, ALL_CLIENTS * MAILS_PER_CLIENT_S * PEAK),
}
assert ALL_CLIENTS <= MAX_CLIENTS


def spread(stores: int, partitions: int = PARTITIONS) -> tuple[float, float]:
    """The largest store's partitions over the mean, and the part of all that moves when one store is added."""
    ids = [number.to_bytes(16, "big") for number in range(stores + 1)]
    before = [rendezvous(partition, ids[:-1]) for partition in range(partitions)]
    after = [rendezvous(partition, [ids[owner], ids[-1]]) for partition, owner in enumerate(before)]
    return max(Counter(before).values()) / (partitions / stores), sum(after) / partitions


# --- tables --------------------------------------------------------------------------------------------


def blocks(costs: Costs) -> dict[str, str]:
    """Name -> Markdown."""
    chosen = chosen_stores(costs)
    return {
        "unit-costs": table(["unit cost", "measured"], [[f"`{name}`", number(costs[name])] for name in costs]),
        "mail-bytes": _mail_bytes(costs),
        "queue": _queue(costs),
        "bounds": _bounds(costs),
        "spread": _spread(sorted({4, 16, chosen})),
        "plan": _plan(costs, chosen),
    }


def chosen_stores(costs: Costs) -> int:
    """For the plan: what its largest bound asks for, with room, and even."""
    needed = max(stores_needed(costs, DEMANDS[f"{GATEWAYS:,} gateways speak for them"]).values())
    return 8 * math.ceil(1.1 * needed / 8)


def _mail_bytes(costs: Costs) -> str:
    rows = []
    for mails in BATCHES:
        handed = costs[f"commit_of_{mails}_bytes"]
        cpu = costs["enclave_commit_cpu_us"] / mails + costs["enclave_mail_cpu_us"]
        store = costs["store_commit_cpu_us"] / mails + costs["store_mail_cpu_us"]
        rows.append([str(mails), *map(number, (handed, handed / mails, cpu, store, 1 / mails))])
    head = [
        "mails in a commit",
        "bytes of a commit",
        "bytes of a mail",
        "µs of CPU, enclave's core",
        "µs, LMDB",
        "requests",
    ]
    return table(head, rows)


def _queue(costs: Costs) -> str:
    rows = []
    for name, append in ENGINES.items():
        store = Store.of(costs, append)
        for part in (0.1, LOAD, 0.9):
            rate = part * store.capacity
            found = simulate(store, rate)
            rows.append(
                [name, *map(number, (rate, found.p50_ms, found.p99_ms, found.mails_per_commit, found.commits_per_s))]
            )
    return table(["a commit takes", "mails/s", "median, ms", "99 %, ms", "mails in a commit", "commits/s"], rows)


def _bounds(costs: Costs) -> str:
    rows = []
    for name, demand in DEMANDS.items():
        needed = stores_needed(costs, demand)
        hellos = demand.speakers * 1e-6 * costs["hello_cpu_us"]
        memory = demand.speakers * costs["client_memory_bytes"] / GIB
        restart = str(needed["restart"]) if needed["restart"] else "not possible"
        rows.append([name, str(needed["memory"]), str(needed["rate"]), restart, number(memory), number(hellos)])
    head = ["", "stores by memory", "by rate", "by restart", "GiB of each store for sessions", "s of hellos, restart"]
    return table(head, rows)


def _spread(counts: Sequence[int]) -> str:
    rows = []
    for count in counts:
        largest, moved = spread(count)
        rows.append([str(count), number(PARTITIONS / count), number(largest), f"{100 * moved:.2f} %"])
    return table(["stores", "partitions each", "largest / mean", "moves when one is added"], rows)


def _plan(costs: Costs, stores: int) -> str:
    demand = DEMANDS[f"{GATEWAYS:,} gateways speak for them"]
    largest, moved = spread(stores)
    keys = demand.keys * largest / stores
    live = keys * costs["entry_bytes"]
    rate = demand.peak_mails * largest / stores
    store = Store.of(costs)
    at_peak, on_average = simulate(store, rate), simulate(store, rate / PEAK)
    leaves = on_average.commits_per_s * costs["leaf_bytes_per_commit"] * 86_400 * 365
    hellos = demand.speakers * 1e-6 * costs["hello_cpu_us"]
    replay = live / (1 << 20) / costs["open_mib_per_cpu_s"]
    memory = live * costs["memory_per_live_byte"] + demand.speakers * costs["client_memory_bytes"]
    moving = demand.keys * moved
    rows = [
        ["stores, each a host with an enclave on two cores", str(stores)],
        ["keys of the largest", number(keys)],
        ["its live bytes, GiB", number(live / GIB)],
        ["its enclave's memory, GiB", number(memory / GIB)],
        ["its records on disk, GiB", number(live * costs["window_per_live_byte"] / GIB)],
        ["its leaf hashes, which stay: GiB a year", number(leaves / GIB)],
        ["its mails/s, mean and peak", f"{number(rate / PEAK)}, {number(rate)} of {number(store.capacity)}"],
        ["mails in a commit, mean and peak", f"{on_average.mails_per_commit:.2f}, {at_peak.mails_per_commit:.2f}"],
        ["ms until an answer at the peak, median and 99 %", f"{number(at_peak.p50_ms)}, {number(at_peak.p99_ms)}"],
        ["s until it serves again after a restart", number(replay + hellos)],
        ["keys that move when one store is added", number(moving)],
        ["hours for that with one mover", number(moving / costs["moved_entries_per_s"] / 3600)],
    ]
    return table(["", "each"], rows)


# --- the document --------------------------------------------------------------------------------------


def filled(text: str, costs: Costs) -> str:
    """The document's text with every table made anew. Raises :class:`KeyError` for a table that there is not."""
    made = blocks(costs)
    missing = made.keys() - {match[2] for match in BLOCK.finditer(text)}
    if missing:
        raise KeyError(f"docs/scaling.md has no place for {sorted(missing)}")
    return BLOCK.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", text)


def read_costs(path: Path = COSTS) -> Costs:
    """The measured unit costs."""
    costs: Costs = json.loads(path.read_text(encoding="utf-8"))
    return costs


def _lines(made: dict[str, str]) -> Iterator[str]:
    for name, text in made.items():
        yield f"{name}:\n{text}\n"


def main(arguments: list[str]) -> None:
    """See the module's docstring. ``--print``: to standard output instead."""
    costs = read_costs()
    if arguments == ["--print"]:
        print("\n".join(_lines(blocks(costs))))
    else:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), costs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
