"""What one thing costs: an entry, a client, a mail, a commit, an entry that moves. Measured, for plans to be made of.

``python -m benchmarks.unit_costs`` measures all of it (about a minute) and writes ``unit_costs.json``, from which
:mod:`benchmarks.scaling` makes the tables of docs/scaling.md. CPU times are those of one process, so that what else
the machine does hardly shows in them; bytes are counted.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child, children_of, cpu_seconds, run_once, tell
from benchmarks.mail_client import MailClient
from benchmarks.mail_core import MAP_ENTRIES, Core
from benchmarks.measure import quartiles
from benchmarks.resident import resident_bytes, weigh
from benchmarks.scale import CLIENTS, QUICK
from benchmarks.space import amplification_figure
from benchmarks.stores import live_mib, open_store, scratch, write_store
from benchmarks.workload import ENTRY_BYTES, names, values
from client import EnclaveClient, InProcessTransport
from client.sharded import Cluster, Mover
from host_store.host import EnclaveHost
from pmap.kv import KeyValueEnclave
from wire.boundary import Delivery, Incoming, IncomingKind
from wire.crypto import SigningKey
from wire.kv import Operation, Put, encode_operations
from wire.limits import ENTRY_OVERHEAD_BYTES
from wire.shard_map import ShardMap, ShardStore, shard_map_text, sign_shard_map

COSTS: Final = Path(__file__).resolve().parent / "unit_costs.json"
_ENTRIES: Final = 300_000
_NEW_CLIENTS: Final = 3_000
BATCHES: Final = (1, 4, 16, 64)
_ROUNDS: Final = 60
_PUTS: Final = 1_000  # in one mail
_MOVED: Final = 20_000
_HTTP_SECONDS: Final = 3.0


def measure() -> dict[str, float]:
    """Every unit cost by name; the name ends in its unit."""
    with scratch(in_memory=True) as folder:
        write_store(folder / "large", _ENTRIES)
        resident = run_once("benchmarks.unit_costs", "resident", folder / "large")
        clients = run_once("benchmarks.unit_costs", "clients", folder / "clients")
        mails = run_once("benchmarks.unit_costs", "mails", folder / "mails")
        moved = run_once("benchmarks.unit_costs", "moves", folder / "moves")
    with scratch() as folder:
        http = _http(folder)
        sync = _commit_ms(folder / "sync")
    space = amplification_figure(QUICK)[0].details
    disk = {
        "window_per_live_byte": space["of it the window of records"],
        "leaf_bytes_per_commit": space["bytes of leaf hashes per commit"],
    }
    return {**resident, **clients, **mails, **moved, **http, **sync, **disk}


def _resident(folder: Path) -> dict[str, float]:
    """Memory of an open map for each live byte, and how fast one is opened from its records."""
    opened, weight = weigh(folder)
    opened.close()
    start = time.process_time()
    open_store(folder).close()
    seconds = time.process_time() - start
    live = _ENTRIES * ENTRY_BYTES
    return {
        "entry_bytes": ENTRY_BYTES,
        "memory_per_live_byte": weight["worked"] / live,
        "open_mib_per_cpu_s": live_mib(_ENTRIES) / seconds,
    }


def _clients(folder: Path) -> dict[str, float]:
    """Memory and live bytes of one client more, with a session, a stream and a reply that waits; CPU of a hello."""
    core = Core(folder)
    core.clients(CLIENTS)
    document = core.written.core.attestation.encode()

    def enrol() -> float:
        client, spent = MailClient(document), 0.0
        (welcome,), (_, spent) = core.exchange([client.hello()])
        client.welcome(welcome)
        (_,), (_, _) = core.exchange([client.seal(next(core.bodies))])
        return spent

    hello = [enrol() for _ in range(100)]
    gc.collect()
    before, stored = resident_bytes(), _live_bytes(core)
    hello += [enrol() for _ in range(_NEW_CLIENTS)]
    gc.collect()
    return {
        "client_memory_bytes": (resident_bytes() - before) / _NEW_CLIENTS,
        "client_live_bytes": (_live_bytes(core) - stored) / _NEW_CLIENTS,
        "hello_cpu_us": 1e6 * statistics.median(hello),
    }


def _live_bytes(core: Core) -> int:
    live = core.written.core._runtime.live
    return sum(len(key) + len(value) + ENTRY_OVERHEAD_BYTES for key, value in live.items())


def _mails(folder: Path) -> dict[str, float]:
    """CPU of the enclave's core and of the store, so much a commit and so much a mail; bytes of whole commits.

    Of CPU times the lower quartile of the rounds: what else the machine does only adds to them.
    """
    core = Core(folder)
    enclave: dict[int, float] = {}
    store: dict[int, float] = {}
    handed: dict[int, float] = {}
    for size in BATCHES:
        spent = [_batch(core, size, cycle([next(core.bodies) for _ in range(100)])) for _ in range(_ROUNDS)]
        enclave[size], store[size] = (quartiles([one[part] for one in spent])[0] for part in (0, 1))
        handed[size] = statistics.median(one[2] for one in spent)
    value, keys = values(), names(MAP_ENTRIES)
    many = cycle([encode_operations([Put(key, value()) for key in keys[:_PUTS]])])
    large = quartiles([_batch(core, 1, many)[0] for _ in range(_ROUNDS)])[0]
    commit_cpu, mail_cpu = _line(enclave)
    store_commit, store_mail = _line(store)
    return {
        "enclave_commit_cpu_us": 1e6 * commit_cpu,
        "enclave_mail_cpu_us": 1e6 * mail_cpu,
        "enclave_put_cpu_us": 1e6 * (large - enclave[1]) / (_PUTS - 1),
        "store_commit_cpu_us": 1e6 * store_commit,
        "store_mail_cpu_us": 1e6 * store_mail,
        **{f"commit_of_{size}_bytes": size_ for size, size_ in handed.items()},
    }


def _batch(core: Core, size: int, bodies: Any) -> tuple[float, float, float]:
    """CPU seconds of the enclave and of the store for one batch, and bytes handed over."""
    talking = core.clients(size)
    batch = [Incoming(IncomingKind.MAIL, client.seal(next(bodies))) for client in talking]
    start = time.process_time()
    deliveries: list[Delivery] = list(core.written.core.deliver(batch))
    middle = time.process_time()
    for delivery in deliveries:
        core.written.keep(delivery)
    end = time.process_time()
    handed = 0
    for delivery in deliveries:
        assert delivery.commit is not None, "mails make commits"
        handed += len(delivery.commit.record) + len(delivery.commit.leaf)
        boxed = {message.slot: message.message for message in delivery.outbox}
        handed += sum(map(len, boxed.values()))
        for answer in delivery.answers:
            talking[answer.position].accept(answer.data if answer.data is not None else boxed[answer.slot])
    return middle - start, end - middle, float(handed)


def _line(points: dict[int, float]) -> tuple[float, float]:
    """Fixed part and part for each: the line through what was measured."""
    slope, fixed = statistics.linear_regression(list(points), list(points.values()))
    return max(fixed, 0.0), slope


def _http(folder: Path) -> dict[str, float]:
    """CPU of the host's process for one mail over HTTP, the store's part included, with a few clients at once."""
    with ExitStack() as stack:
        server = stack.enter_context(Child("benchmarks.serve", folder / "http", "with"))
        load = stack.enter_context(Child("benchmarks.load", server.answer(), "mail"))
        load.ask(clients=CLIENTS, seconds=0.2)
        (enclave,) = children_of(server.pid)
        before = cpu_seconds(server.pid), cpu_seconds(enclave)
        found = load.ask(clients=CLIENTS, seconds=_HTTP_SECONDS)
        host, inside = cpu_seconds(server.pid) - before[0], cpu_seconds(enclave) - before[1]
    return {"host_mail_cpu_us": 1e6 * host / found["mails"], "enclave_http_mail_cpu_us": 1e6 * inside / found["mails"]}


def _commit_ms(folder: Path) -> dict[str, float]:
    """How long the store takes, on this machine's disk, until a commit of a few mails is durable."""
    core, seconds = Core(folder), []
    talking = core.clients(CLIENTS)
    for _ in range(_ROUNDS):
        batch = [Incoming(IncomingKind.MAIL, client.seal(next(core.bodies))) for client in talking]
        (delivery,) = core.written.core.deliver(batch)
        start = time.perf_counter()
        core.written.keep(delivery)
        seconds.append(time.perf_counter() - start)
        boxed = {message.slot: message.message for message in delivery.outbox}
        for answer in delivery.answers:
            talking[answer.position].accept(boxed[answer.slot])
    return {"commit_here_ms": 1e3 * statistics.median(seconds)}


def _moves(folder: Path) -> dict[str, float]:
    """CPU of mover, hosts and enclaves together for one entry that moves, all in this process."""
    folder.mkdir()
    owner, settings = SigningKey(bytes(32)), {"constraint": "SEC:INSECURE"}
    with ExitStack() as stack:
        hosts = {}
        for number in range(2):
            name = folder / str(number)
            host = stack.enter_context(EnclaveHost.start(KeyValueEnclave, name, in_process=True))
            with EnclaveClient.connect(InProcessTransport(host), **settings) as client:  # type: ignore[arg-type]
                hosts[client.store_id] = host, ShardStore(client.store_id, client.checkpoint_key, f"host:{number}")
        first = ShardMap.found(owner.public, bytes(16), [store for _, store in hosts.values()], 64)
        text = shard_map_text(sign_shard_map(owner, first))
        cluster = stack.enter_context(
            Cluster.open(
                owner.public.hex(), text, reach=lambda store: InProcessTransport(hosts[store.store_id][0]), **settings
            )
        )
        mover, value = Mover(cluster, owner), values()
        mover.settle()
        keys = [key for key in names(3 * _MOVED) if first.owner_of(key) == 0][:_MOVED]
        puts: list[Operation] = [Put(key, value()) for key in keys]
        for start in range(0, len(puts), _PUTS):
            cluster.run(cluster.router.execute(list(islice(puts, start, start + _PUTS))), "fill")
        before, start_time = time.process_time(), time.perf_counter()
        mover.begin_move(first.owned[0], 1)
        mover.settle()
        spent, took = time.process_time() - before, time.perf_counter() - start_time
    return {"move_entry_cpu_us": 1e6 * spent / len(keys), "moved_entries_per_s": len(keys) / took}


_PARTS: Final = {"resident": _resident, "clients": _clients, "mails": _mails, "moves": _moves}


def main(arguments: list[str]) -> None:
    """See the module's docstring. With the name of a part and a folder: that part, as a child."""
    if arguments:
        part, folder = arguments
        tell(_PARTS[part](Path(folder)))
        return
    costs = {name: float(f"{value:.3g}") for name, value in measure().items()}
    COSTS.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    for name, value in costs.items():
        print(f"{name:<26} {value:g}")


if __name__ == "__main__":
    main(sys.argv[1:])
