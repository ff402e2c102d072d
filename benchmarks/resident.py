"""What a large map costs while it is open: memory per live byte, and CPU per commit against its size.

Run as a child (:mod:`benchmarks.child`): ``python -m benchmarks.resident memory FOLDER`` weighs a map in a process that
did nothing else; ``... cost FOLDER...`` compares the commits of several maps, interleaved.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.child import run_once, tell
from benchmarks.measure import Figure, cpu, figure, interleave, medians, quotients
from benchmarks.peers import OursFull
from benchmarks.scale import BIG_COUNT, SMALL_COUNT, Scale
from benchmarks.stores import open_store, scratch, write_store
from benchmarks.workload import ENTRY_BYTES, names, values
from host_store import EmbeddedMap

_COMMITS: Final = 200  # in a round
_SAMPLE_SECONDS: Final = 0.005
_FULL_SWEEP_COUNTS: Final = (1_000, 3_000, 10_000, 30_000, 100_000)


def memory_figure(folder: Path, count: int) -> Figure:
    """RSS of a process that opened the store of ``count`` entries, beyond what it had before, per live byte."""
    weighed = run_once("benchmarks.resident", "memory", folder)
    live = count * ENTRY_BYTES
    details = {
        "live bytes": live,
        "memory bytes": weighed["after"],
        "peak while opening / live": weighed["peak"] / live,
        "after 1000 commits / live": weighed["worked"] / live,
    }
    return figure("memory_per_live_byte", [weighed["after"] / live], details)


def cost_figure(folders: dict[int, Path], scale: Scale) -> tuple[Figure, dict[str, Any]]:
    """``flat_cost``, and for the plot the CPU seconds of a one-put commit against map size, ours and whole-map's."""
    costs = run_once("benchmarks.resident", "cost", scale.rounds, *(f"{n}:{path}" for n, path in folders.items()))
    ours = costs["ours"]
    details = {f"µs of CPU at {count}": 1e6 * cost for count, cost in medians(ours).items()}
    made = figure("flat_cost", quotients(ours[str(BIG_COUNT)], ours[str(SMALL_COUNT)]), details)
    curve = {"incremental": medians(ours)}
    if scale.cost_counts:
        curve["full"] = {str(count): _full_sweep_cost(count) for count in _FULL_SWEEP_COUNTS}
    return made, curve


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


def _memory(folder: Path) -> None:
    with scratch(in_memory=True) as warm_up:
        # Everything that is loaded once, on the first use of anything.
        write_store(warm_up / "store", 1_000)
        open_store(warm_up / "store").close()
    gc.collect()
    before = resident_bytes()
    with peak_bytes() as peak:
        opened = open_store(folder)
    after = resident_bytes()
    committing(opened, 1_000)()
    answer = {"after": after - before, "peak": peak[0] - before, "worked": resident_bytes() - before}
    opened.close()
    tell(answer)


def _cost(rounds: int, stores: list[str]) -> None:
    contenders = {}
    for count, _, folder in (store.partition(":") for store in stores):
        opened = open_store(Path(folder))
        opened.close()  # the log goes on without it
        contenders[count] = partial(cpu, committing(opened, _COMMITS))
    tell({"ours": interleave(contenders, rounds)})


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    if arguments[0] == "memory":
        _memory(Path(arguments[1]))
    else:
        _cost(int(arguments[1]), arguments[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
