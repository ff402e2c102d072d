"""Bytes: what one mail makes a host store and write, and what a store occupies beside what is live in it.

Bytes are counted, not timed, so all of this runs in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.mail_core import Core
from benchmarks.measure import Figure, figure, quartiles
from benchmarks.scale import CLIENTS, Scale
from benchmarks.stores import Written, overwrite_cycle, scratch
from benchmarks.workload import ENTRY_BYTES, KEY_CHARACTERS, values
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.lmdb.tables import LEAVES, NODES, RECORDS
from wire.boundary import Delivery, Incoming, IncomingKind

_MAILS: Final = 64  # mails of each client
_PLACE_BYTES: Final = 12  # by which a store names an outbox item: commit and index
_SAMPLES: Final = 10  # in one phase of a run
HEADLINE_WRITES: Final = 2
"""Writes of each entry, on average, after which ``space_amplification`` is taken: one overwrite, one replacement."""


# --- one mail ----------------------------------------------------------------------------------------------


def mail_bytes_figure() -> Figure:
    """``mail_bytes_to_store``: what a host hands to its store for one small put that comes alone."""
    with scratch(in_memory=True) as folder:
        core = Core(folder / "store")
        alone, together = (_mails(core, clients) for clients in (1, CLIENTS))
        core.written.close()
    details = {
        **{f"{part}, alone": quartiles(counts)[1] for part, counts in alone.items()},
        **{f"{part}, of {CLIENTS} in a commit": quartiles(counts)[1] / CLIENTS for part, counts in together.items()},
    }
    return figure("mail_bytes_to_store", alone["handed"], details)


def _mails(core: Core, clients: int) -> dict[str, list[float]]:
    """Bytes of each commit: handed to the store, its parts, and what LMDB then wrote to its files."""
    counts: dict[str, list[float]] = {"handed": [], "record": [], "outbox": [], "written by the store": []}
    talking = core.clients(clients)
    for _ in range(_MAILS):
        batch = [Incoming(IncomingKind.MAIL, client.seal(next(core.bodies))) for client in talking]
        (delivery,) = core.written.core.deliver(batch)
        before = _written_bytes()
        core.written.keep(delivery)
        counts["written by the store"].append(_written_bytes() - before)
        for part, size in _parts(delivery).items():
            counts[part].append(size)
        messages = {message.slot: message.message for message in delivery.outbox}
        for answer in delivery.answers:
            talking[answer.position].accept(messages[answer.slot])
    return counts


def _parts(delivery: Delivery) -> dict[str, int]:
    commit = delivery.commit
    assert commit is not None, "every mail is committed"
    outbox = sum(len(each.message) + len(each.address) + _PLACE_BYTES for each in delivery.outbox)
    handed = len(commit.record) + len(commit.leaf) + outbox + len(delivery.drops) * _PLACE_BYTES
    return {"record": len(commit.record), "outbox": outbox, "handed": handed}


def _written_bytes() -> int:
    """What this process has given to write calls so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise RuntimeError("no wchar in /proc/self/io")


# --- long runs ---------------------------------------------------------------------------------------------


def amplification_figure(scale: Scale) -> tuple[Figure, list[dict[str, Any]]]:
    """``space_amplification``: pages in use / live bytes, the worst while each entry is written twice, a put a commit.

    Also the samples of whole runs, for the plot.
    """
    single = list(long_run(scale.space_entries, 1, scale.space_cycles))
    grouped = list(long_run(scale.space_entries, CLIENTS, scale.space_cycles))
    steady = _steady(single)
    worst = max(steady, key=lambda row: row["used"])
    made = figure("space_amplification", [row["used"] for row in steady])
    made.value = worst["used"]
    made.details = {
        "of it the window of records": worst["window"],
        "of it leaf hashes, which stay for ever": worst["history"],
        "bytes of leaf hashes per commit": worst["history_bytes_per_commit"],
        f"{CLIENTS} puts a commit, worst": max(row["used"] for row in _steady(grouped)),
        f"{CLIENTS} puts a commit, worst while shrinking to half": max(
            row["used"] for row in grouped if row["phase"] == "shrink"
        ),
        "files / live, with the journal": worst["file"],
    }
    return made, [{"puts": puts, **row} for puts, rows in ((1, single), (CLIENTS, grouped)) for row in rows]


def _steady(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples that the figure is about."""
    return [row for row in rows if row["phase"] in ("overwrite", "replace") and row["writes"] <= HEADLINE_WRITES]


def long_run(entries: int, puts: int, cycles: int) -> Iterator[dict[str, Any]]:
    """Samples of a store of ``entries`` under commits of ``puts`` each. In each cycle as many entries are overwritten
    as there are, then as many deleted and others inserted. At the end half are deleted, and the rest overwritten.

    The first cycle of the sweep, which replaces the records of the load by small ones, is not sampled.
    """
    source, value = random.Random(puts), values()
    with scratch(in_memory=True) as folder:
        written = Written(folder / "store")
        keys, map_ = written.load(entries), written.core.map

        def overwrite() -> None:
            map_[source.choice(keys)] = value()

        def replace() -> None:
            at = source.randrange(len(keys))
            del map_[keys[at]]
            keys[at] = source.randbytes(KEY_CHARACTERS // 2).hex()
            map_[keys[at]] = value()

        def shrink() -> None:
            del map_[keys.pop()]

        overwrite_cycle(written, keys)
        base = written.store.head().n
        writes = 0.0
        phases = [("overwrite", overwrite, entries // puts), ("replace", replace, entries // puts)] * cycles
        phases += [("shrink", shrink, entries // 2 // puts), ("overwrite half", overwrite, entries // 2 // puts)]
        for phase, change, commits in phases:
            for number in range(1, commits + 1):
                _commit(written, change, puts)
                if number % max(1, commits // _SAMPLES) == 0:
                    writes_here = writes + number * puts / entries
                    yield {"phase": phase, "writes": writes_here, **sample(written.store, len(keys), base)}
            writes += commits * puts / entries
        written.close()


def _commit(written: Written, change: Callable[[], None], puts: int) -> None:
    with written.core._runtime.entries.transaction():
        for _ in range(puts):
            change()
    written.commit()


def sample(store: LmdbStore, entries: int, base: int = 0) -> dict[str, float]:
    """A store's bytes over its live bytes: pages in use, and of these the records' and the history's; the files.

    The history (leaf hashes and stored nodes) of commits up to ``base`` is left out of all of them. The journal, of a
    size that does not depend on the store's, is in the files alone: what stands in it is moved to LMDB before.
    """
    store.flush()
    live, stats, head = entries * ENTRY_BYTES, store.stats(), store.head()
    with store._environment.view() as (transaction, tables):
        window, leaves, nodes = (_pages(transaction.stat(tables[table])) for table in (RECORDS, LEAVES, NODES))
    rows = leaves + nodes
    per_commit = rows / head.n
    before = base * per_commit
    return {
        "used": (stats.used_bytes - before) / live,
        "window": window / live,
        "history": (rows - before) / live,
        "history_bytes_per_commit": per_commit,
        "file": stats.file_bytes / live,
    }


def _pages(stat: dict[str, int]) -> int:
    """Bytes of all pages of a table."""
    return (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"]
