"""Where the time goes: the functions that take most of it themselves, for what stands behind some of the figures.

cProfile makes calls of Python functions look more expensive than they are; time includes waiting for the disk.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.mail_core import Core
from benchmarks.peers import Ours
from benchmarks.resident import committing
from benchmarks.scale import CLIENTS, PEER_COUNT
from benchmarks.stores import open_store, scratch, write_store
from benchmarks.workload import names, values

_FUNCTIONS: Final = 14
_ROOT: Final = Path(__file__).resolve().parent.parent
Work = Callable[[], object]


@contextmanager
def _embedded() -> Iterator[Ours]:
    with scratch() as folder:
        ours, value = Ours(folder / "map"), values()
        ours.put_all([(name, value()) for name in names(PEER_COUNT)])
        yield ours
        ours.close()


@contextmanager
def _puts(count: int, commits: int) -> Iterator[Work]:
    with _embedded() as ours:
        value, keys = values(), names(PEER_COUNT)
        batches = [[(key, value()) for key in keys[at : at + count]] for at in range(0, count * commits, count)]

        def work() -> None:
            for batch in batches:
                if count == 1:
                    ours.put(*batch[0])
                else:
                    ours.put_all(batch)

        yield work


@contextmanager
def _gets() -> Iterator[Work]:
    with _embedded() as ours:
        get, keys = ours.reader(), names(PEER_COUNT)
        yield lambda: [get(key) for key in keys]


@contextmanager
def _scan() -> Iterator[Work]:
    with _embedded() as ours:
        yield lambda: deque(ours.pairs(), maxlen=0)


@contextmanager
def _commits() -> Iterator[Work]:
    with scratch(in_memory=True) as folder:
        write_store(folder / "store", PEER_COUNT)
        opened = open_store(folder / "store")
        yield committing(opened, 3_000)
        opened.close()


@contextmanager
def _opening() -> Iterator[Work]:
    with scratch(in_memory=True) as folder:
        write_store(folder / "store", 3 * PEER_COUNT)
        yield lambda: open_store(folder / "store").close()


@contextmanager
def _mails() -> Iterator[Work]:
    with scratch() as folder:
        core = Core(folder / "store")
        core.clients(CLIENTS)
        yield lambda: core.round(CLIENTS, 1.0)
        core.written.close()


SUBJECTS: Final = {
    "commit_vs_lmdb": lambda: _puts(1, 2_000),
    "commit50_vs_lmdb": lambda: _puts(50, 300),
    "batch1000_vs_sqlcipher": lambda: _puts(1_000, 50),
    "batch1000_vs_lmdb_aesgcm": lambda: _puts(1_000, 50),
    "get_vs_lmdb": _gets,
    "scan_vs_lmdb": _scan,
    "flat_cost": _commits,
    "restart_mib_s": _opening,
    "freshness_cost": _mails,
}
"""``freshness_cost``: the clients' part is in the profile as well. ``restart_mib_s``: the part of ``open_map``."""


def show(wanted: list[str]) -> int:
    """Print the profiles of these figures; returns the exit code."""
    unknown = [name for name in wanted if name not in SUBJECTS]
    if unknown:
        print(f"there is a profile of {', '.join(SUBJECTS)}; none of {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in wanted:
        print(f"{name}:")
        for line in top_functions(name):
            print(f"  {line}")
    return 0


def top_functions(name: str, count: int = _FUNCTIONS) -> list[str]:
    """Lines of the functions with most time of their own: part of all the time, calls, place."""
    profiler = cProfile.Profile()
    with SUBJECTS[name]() as work:
        profiler.runcall(work)
    stats = pstats.Stats(profiler)
    total: float = stats.total_tt  # type: ignore[attr-defined]
    every = sorted(stats.stats.items(), key=lambda item: -item[1][2])  # type: ignore[attr-defined]
    return [
        f"{100 * own / total:5.1f} %  {calls:>8} calls  {_place(function)}"
        for function, (_, calls, own, _, _) in every[:count]
    ]


def _place(function: tuple[str, int, str]) -> str:
    file, line, name = function
    if file == "~":
        return name
    path = Path(file)
    shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(*path.parts[-2:])
    return f"{shown}:{line} {name}"
