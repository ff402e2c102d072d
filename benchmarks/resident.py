"""What a large map costs while it is open: memory per live byte, and CPU per commit against its size.

``python -m benchmarks.resident ROUNDS COUNT:FOLDER...`` opens the first store in a process that has done nothing else,
weighs it, then compares the commits of all of them, interleaved.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.child import run_once, tell
from benchmarks.measure import Figure, cpu, figure, interleave, medians, quotients
from benchmarks.peers import OursFull
from benchmarks.scale import BIG_COUNT, SMALL_COUNT, Scale
from benchmarks.stores import live_mib, open_store, scratch, write_store
from benchmarks.workload import ENTRY_BYTES, names, values
from host_store import EmbeddedMap

_COMMITS: Final = 200  # in a round
_SAMPLE_SECONDS: Final = 0.005
_FULL_SWEEP_COUNTS: Final = (1_000, 3_000, 10_000, 30_000, 100_000)


def resident_figures(stores: dict[int, Path], scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """``flat_cost`` and ``memory_per_live_byte`` of ``stores`` (entries -> folder), which begin with the largest.

    For the plot: seconds of CPU of a one-put commit against entries, ours and whole-map sealing's.
    """
    found = run_once("benchmarks.resident", scale.rounds, *(f"{count}:{folder}" for count, folder in stores.items()))
    costs, weight = found["costs"], found["weight"]
    flat = figure(
        "flat_cost",
        quotients(costs[str(BIG_COUNT)], costs[str(SMALL_COUNT)]),
        {f"µs of CPU at {count}": 1e6 * cost for count, cost in medians(costs).items()},
    )
    live = BIG_COUNT * ENTRY_BYTES
    memory = figure(
        "memory_per_live_byte",
        [weight["after"] / live],
        {
            "live bytes": live,
            "memory bytes": weight["after"],
            "peak while opening / live": weight["peak"] / live,
            "after 1000 commits / live": weight["worked"] / live,
            "MiB/s of open_map": live_mib(BIG_COUNT) / weight["seconds"],
        },
    )
    curve = {"incremental": medians(costs)}
    if scale.cost_counts:
        curve["full"] = {str(count): _full_sweep_cost(count) for count in _FULL_SWEEP_COUNTS}
    return [flat, memory], curve


def _full_sweep_cost(count: int) -> float:
    with scratch(in_memory=True) as folder:
        whole, value = OursFull(folder / "map"), values()
        whole.put_all([(name, value()) for name in names(count)])
        cost = cpu(committing(whole.map, max(3, 100_000 // count)))
        whole.close()
    return cost


def committing(opened: EmbeddedMap, commits: int) -> Callable[[], int]:
    """One-put commits whose records go nowhere: what the log itself does. A signature, which costs the same at every
    size, would only flatter the comparison."""
    source, value = random.Random(3), values()
    log, entries, keys = opened._log, opened._log.entries, list(opened)
    put = super(EmbeddedMap, opened).__setitem__

    def work() -> int:
        for _ in range(commits):
            with entries.transaction():
                put(source.choice(keys), value())
            log.commit()
        return commits

    return work


# --- the child ---------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """This process's own memory now (``RssAnon``): without the pages of LMDB's file that it looks at, which are the
    page cache's, and which an enclave in a process of its own does not see at all."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status: Linux 4.5 or later is needed")


@contextmanager
def peak_bytes() -> Iterator[list[int]]:
    """The highest :func:`resident_bytes` while the block runs, as the list's one item, sampled every few ms."""
    peak, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], resident_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()


def weigh(folder: Path) -> tuple[EmbeddedMap, dict[str, float]]:
    """Open a store: the map, and bytes of memory beyond those of before."""
    with scratch(in_memory=True) as warm_up:
        # Everything that is loaded once, on the first use of anything.
        write_store(warm_up / "store", 1_000)
        open_store(warm_up / "store").close()
    gc.collect()
    before, start = resident_bytes(), time.perf_counter()
    with peak_bytes() as peak:
        opened = open_store(folder)
    seconds, after = time.perf_counter() - start, resident_bytes()
    committing(opened, 1_000)()
    worked = resident_bytes()
    return opened, {
        "seconds": seconds,
        "after": after - before,
        "peak": max(after, peak[0]) - before,
        "worked": worked - before,
    }


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    rounds = int(arguments[0])
    stores = {count: Path(folder) for count, _, folder in (each.partition(":") for each in arguments[1:])}
    opened: dict[str, EmbeddedMap] = {}
    weight: dict[str, float] = {}
    for count, folder in stores.items():
        if opened:
            opened[count] = open_store(folder)
        else:
            opened[count], weight = weigh(folder)
        opened[count].close()  # the log goes on without its store
    contenders = {count: partial(cpu, committing(map_, _COMMITS)) for count, map_ in opened.items()}
    tell({"weight": weight, "costs": interleave(contenders, rounds)})


if __name__ == "__main__":
    main(sys.argv[1:])
