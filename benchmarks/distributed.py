"""Stores on shared engines beside the bare engine: durable commits of real mails, the same bytes, the same batches.

An enclave executes the mails of 16 clients, one of each in a batch, and what it hands out for storing is kept. Then, in
turn, a host makes a block of these commits durable on a :class:`host_store.stores.log_store.LogStore`, and a client of
the bare engine writes the same bytes, a batch at a time, in the engine's cheapest durable way. Both are told of one
commit after the other; neither knows of the next before the last one is durable. The clock does not see the enclave and
the clients at work: what they cost is the same on every store. What a whole server does, with them and over HTTP, is in
the details.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.child import Child
from benchmarks.engine_servers import KINDS, S3, Etcd, Postgresql, missing
from benchmarks.mail_core import Core
from benchmarks.measure import Figure, Round, figure, interleave, medians, quotients
from benchmarks.scale import CLIENTS, Scale
from benchmarks.stores import scratch
from host_store.intake import Intake, Item
from host_store.stores.log_store import LogStore
from host_store.stores.url import StoreUrl, connect, open_store
from host_store.writer import Writer
from wire.boundary import Delivery, Incoming, IncomingKind

BLOCK: Final = 20
"""Commits that one contender makes in its turn: short, so that both see the machine in one mood."""
LIVE_CLIENT_SECONDS: Final = 0.5
_PREFIX: Final = "engine_"

AnyServer = Postgresql | Etcd | S3


class Recorded(NamedTuple):
    """What an enclave handed out: how its store begins, and its commits from number 2 on."""

    keyring: bytes
    genesis: Delivery
    before: list[Delivery]
    mails: list[Delivery]


def engine_figures(wanted: Collection[str], scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """The figures ``engine_...`` that are wanted and whose engine is installed."""
    kinds = [kind for kind in KINDS if _PREFIX + kind in wanted and not missing(kind)]
    if not kinds:
        return [], {}
    recorded = record(BLOCK * (scale.engine_rounds + 1))
    return [measure(kind, recorded, scale) for kind in kinds], {}


def record(commits: int, mails: int = CLIENTS) -> Recorded:
    """Let an enclave execute ``commits`` batches, of one mail from each of so many clients."""
    kept: list[Delivery] = []
    with scratch(in_memory=True) as folder:
        core = Core(folder / "store", kept)
        clients = core.clients(mails)
        before, first = list(kept), len(kept)
        for _ in range(commits):
            answers, _took = core.exchange([client.seal(next(core.bodies)) for client in clients])
            for client, answer in zip(clients, answers, strict=True):
                client.accept(answer)
        core.written.close()
        return Recorded(core.written.keyring, core.written.genesis, before, kept[first:])


def measure(kind: str, recorded: Recorded, scale: Scale) -> Figure:
    """One engine."""
    with _server(kind) as server, open_store(server.url("ours")) as store, _bare(server) as write:
        assert isinstance(store, LogStore)
        commit = recorded.genesis.commit
        assert commit is not None
        store.create(recorded.keyring, commit.record, commit.leaf)
        ours = _WayOut(store)
        ours.keep(recorded.before)
        blocks = {"ours": _blocks(recorded.mails), "bare": _blocks(recorded.mails)}
        keep_all: dict[str, Callable[[list[Delivery]], None]] = {
            "ours": ours.keep,
            "bare": lambda deliveries: [write(each.number, _bytes_of(each)) for each in deliveries] and None,
        }

        def round_of(name: str) -> Round:
            def run() -> float:
                block = next(blocks[name])
                start = time.perf_counter()
                keep_all[name](block)
                return len(block) / (time.perf_counter() - start)

            return run

        contenders = {name: round_of(name) for name in keep_all}
        for run in contenders.values():
            run()  # warm, and not counted
        series = interleave(contenders, scale.engine_rounds)
        sizes = sorted(len(_bytes_of(each)) for each in recorded.mails)
        details = {f"commits/s, {name}": rate for name, rate in medians(series).items()}
        details |= {"mails in a commit": float(CLIENTS), "bytes of a commit": float(sizes[len(sizes) // 2])}
        if scale.engine_servers:
            details |= live(server, scale.mail_seconds)
        return figure(_PREFIX + kind, quotients(series["ours"], series["bare"]), details)


def live(server: AnyServer, seconds: float) -> dict[str, float]:
    """A whole server on this engine, with its clients, over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        child = Child("benchmarks.serve", Path(folder, "live"), "with", server.url("live"))
        with child, Child("benchmarks.load", url := child.answer(), "mail") as load:
            load.ask(clients=CLIENTS, seconds=LIVE_CLIENT_SECONDS)
            before = _commits(url)
            found = load.ask(clients=CLIENTS, seconds=3 * seconds)
            commits = _commits(url) - before
    return {
        "whole server over HTTP, mails/s": found["mails_per_s"],
        "commits/s": commits * found["mails_per_s"] / found["mails"],
        "p50_ms of a mail": found["p50_ms"],
    }


def _commits(url: str) -> int:
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
        return int(json.load(answer)["n"])


class _WayOut:
    """The part of a host that makes commits durable, given them one by one as an enclave would."""

    def __init__(self, store: LogStore) -> None:
        self._writer = Writer(store, Intake())
        self._writer.begin_epoch(persistent=True)

    def keep(self, deliveries: list[Delivery]) -> None:
        """Return when all are durable and answered."""
        for delivery in deliveries:
            batch: list[Item | None] = [_item() for _ in delivery.answers]
            self._writer.carry_out(delivery, batch)
            self._writer.finish(batch, None)


class _Nobody:
    def set_result(self, result: bytes | None, /) -> None:
        pass

    def set_exception(self, exception: BaseException, /) -> None:
        raise exception


def _item() -> Item:
    return Item(Incoming(IncomingKind.MAIL, b""), _Nobody())


def _blocks(deliveries: list[Delivery]) -> Iterator[list[Delivery]]:
    return iter([deliveries[start : start + BLOCK] for start in range(0, len(deliveries), BLOCK)])


def _bytes_of(delivery: Delivery) -> bytes:
    """Everything of a commit that has to be durable."""
    commit = delivery.commit
    assert commit is not None
    return b"".join([commit.record, commit.leaf, *[each.address + each.message for each in delivery.outbox]])


@contextmanager
def _server(kind: str) -> Iterator[AnyServer]:
    """On the disk: what is in memory is not durable."""
    folder = Path(tempfile.mkdtemp(prefix="pmap-bench-"))
    server = KINDS[kind](folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _bare(server: AnyServer) -> Iterator[Callable[[int, bytes], None]]:
    """The engine's cheapest durable way to write bytes under a number, by the client that its users would take."""
    if isinstance(server, Postgresql):
        import psycopg

        url = StoreUrl.parse(server.url("bare")).text.partition("?")[0]
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor(binary=True) as cursor:
            cursor.execute("CREATE TABLE bare (n bigint PRIMARY KEY, value bytea NOT NULL)")
            insert = "INSERT INTO bare VALUES (%s, %b)"
            yield lambda n, value: cursor.execute(insert, (n, value), prepare=True) and None
    elif isinstance(server, Etcd):
        import grpc
        from aetcd import rpc

        with grpc.insecure_channel(f"127.0.0.1:{server.ports[server.leader() or 0]}") as channel:
            put = rpc.KVStub(channel).Put
            yield lambda n, value: put(rpc.PutRequest(key=b"bare/%020d" % n, value=value)) and None
    else:
        import obstore

        engine, _options = connect(StoreUrl.parse(server.url("bare")))
        client: Any = engine._store  # type: ignore[attr-defined]
        yield lambda n, value: obstore.put(client, f"bare/{n:020d}", value, use_multipart=False) and None
        engine.close()
