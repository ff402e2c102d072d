"""The embedded map beside its peers: durable commits of 1, 50 and 1000 puts, reads, scans, at equal sizes."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from benchmarks.engines import Get, Lmdb
from benchmarks.measure import Figure, Round, Series, cpu_rate, figure, interleave, medians, quotients
from benchmarks.peers import AES_GCM, CONTENDERS, FULL, LMDB, OURS, SQLCIPHER, Contender, available, make
from benchmarks.scale import PEER_COUNT, Scale
from benchmarks.stores import LOAD_PUTS, scratch
from benchmarks.workload import names, values

Made = dict[str, Contender]
Kinds = dict[str, Series]
"""Of each kind of work, each contender's rates."""

_BATCHES: Final = 16  # different batches of puts, taken in turn
_READS: Final = 10_000  # reads between two looks at the clock

LMDB_EACH: Final = "LMDB, a transaction for each get"
COMPARED: Final[dict[str, tuple[str, str, str]]] = {
    # Rates all of them, so a cost is theirs over ours.
    "commit_vs_lmdb": ("commit1", LMDB, OURS),
    "commit50_vs_lmdb": ("commit50", LMDB, OURS),
    "batch1000_vs_sqlcipher": ("commit1000", OURS, SQLCIPHER),
    "batch1000_vs_lmdb_aesgcm": ("commit1000", OURS, AES_GCM),
    # Each get of ours sees the newest commit; LMDB's do so in transactions of their own.
    "get_vs_lmdb": ("get", OURS, LMDB_EACH),
    "scan_vs_lmdb": ("scan", OURS, LMDB),
    "whole_map_speedup": ("whole map", OURS, FULL),
}
"""Of each figure the kind of work, and whose rate stands over whose."""
KINDS: Final = ("commit1", "commit50", "commit1000", "get", "scan", "whole map")
_MOST_WHOLE_MAP_ROUNDS: Final = 5
_MOST_WHOLE_MAP_ENTRIES: Final = 100_000


def peer_figures(wanted: Collection[str], scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """Those ``wanted`` of the figures that name a peer; for plots the rates: entries -> kind of work -> contender."""
    needed: dict[str, set[str]] = {}
    for kind, over, under in (COMPARED[name] for name in wanted):
        needed.setdefault(kind, set()).update((over, under, LMDB) if LMDB_EACH in (over, under) else (over, under))
    kinds = compare(PEER_COUNT, needed, scale)
    figures = []
    for name in wanted:
        kind, over, under = COMPARED[name]
        rates = kinds[kind]
        if over in rates and under in rates:
            details = {f"{contender}, per s": rate for contender, rate in medians(rates).items()}
            figures.append(figure(name, quotients(rates[over], rates[under]), details))
    curves = {str(PEER_COUNT): _medians(kinds)}
    for count in scale.peer_counts:
        curves[str(count)] = _medians(compare(count, needed, scale))
    return figures, curves


def _medians(kinds: Kinds) -> dict[str, dict[str, float]]:
    return {kind: medians(series) for kind, series in kinds.items()}


# --- measuring ------------------------------------------------------------------------------------------


def compare(count: int, needed: Mapping[str, Collection[str]], scale: Scale) -> Kinds:
    """Rates on stores of ``count`` entries: of the ``needed`` contenders of each kind of work, or of all."""
    every = [name for name in CONTENDERS if name != FULL or count <= _MOST_WHOLE_MAP_ENTRIES]
    wanted = {kind: _contenders(kind, needed[kind], every, scale) for kind in KINDS if kind in needed}
    keys = names(count)
    with scratch() as folder, ExitStack() as stack:
        made = open_loaded(
            folder, available(name for name in every if any(name in each for each in wanted.values())), keys, stack
        )
        kinds: Kinds = {}
        for kind, contenders in wanted.items():
            rounds = min(scale.rounds, _MOST_WHOLE_MAP_ROUNDS) if kind == "whole map" else scale.rounds
            work = {name: _round(kind, made[name], keys, scale.round_seconds) for name in contenders if name in made}
            if kind == "get" and isinstance(lmdb := made.get(LMDB), Lmdb):  # the same store, read in two ways
                work[LMDB_EACH] = _getting(lmdb, lmdb.current_reader, keys, scale.round_seconds)
            kinds[kind] = interleave(work, rounds)
        return kinds


def _contenders(kind: str, needed: Collection[str], every: Collection[str], scale: Scale) -> list[str]:
    # Whole-map sealing takes a long time for everything that it writes: it has a kind of work of its own.
    all_of_kind = [OURS, FULL] if kind == "whole map" else [name for name in every if name != FULL]
    return [name for name in all_of_kind if name in every and (scale.every_peer or name in needed)]


def open_loaded(folder: Path, wanted: Iterable[str], keys: list[str], stack: ExitStack) -> Made:
    """A store of each kind with all of ``keys``, closed with the stack.

    They are loaded in order, which leaves every kind of tree at its densest.
    """
    made: Made = {}
    value, ordered = values(), sorted(keys)
    for number, name in enumerate(wanted):
        made[name] = contender = stack.enter_context(closing(make(name, folder / str(number))))
        for start in range(0, len(keys), LOAD_PUTS):
            contender.put_all([(contender.key(key), value()) for key in ordered[start : start + LOAD_PUTS]])
    return made


def _round(kind: str, contender: Contender, names_: list[str], seconds: float) -> Round:
    match kind:
        case "get":
            return _getting(contender, contender.reader, names_, seconds)
        case "scan":
            return _scanning(contender, len(names_))
        case "whole map":
            return _committing(contender, names_, 1, seconds)
        case _:
            return _committing(contender, names_, int(kind.removeprefix("commit")), seconds)


def _committing(contender: Contender, names_: list[str], puts: int, seconds: float) -> Round:
    """Durable commits of ``puts`` random puts each: puts per second."""
    source, value = random.Random(puts), values()
    chosen = [source.sample(names_, puts) for _ in range(_BATCHES if puts > 1 else 1000)]
    # Other values each time around: SQLite leaves out a write, and with it the sync, of what is there already.
    turn = cycle([[(contender.key(name), value()) for name in batch] for _ in range(2) for batch in chosen])
    put, put_all = contender.put, contender.put_all

    def step() -> int:
        batch = next(turn)
        if puts == 1:
            put(*batch[0])
        else:
            put_all(batch)
        return puts

    return lambda: rate_for(seconds, step)


def _getting(contender: Contender, reader: Callable[[], Get], names_: list[str], seconds: float) -> Round:
    """Gets of random keys, per second of CPU."""
    source = random.Random(5)
    keys = [contender.key(source.choice(names_)) for _ in range(_READS)]

    def work() -> int:
        get = reader()
        done, deadline = 0, time.perf_counter() + seconds
        while done == 0 or time.perf_counter() < deadline:
            for key in keys:
                get(key)
            done += _READS
        return done

    return lambda: cpu_rate(work)


def _scanning(contender: Contender, count: int) -> Round:
    """One walk over everything in order: entries per second of CPU."""

    def work() -> int:
        deque(contender.pairs(), maxlen=0)
        return count

    return lambda: cpu_rate(work)


def rate_for(seconds: float, step: Callable[[], int]) -> float:
    """Operations per second of repeating ``step``, which says how many it did, for about so long."""
    start = now = time.perf_counter()
    done = 0
    while now - start < seconds:
        done += step()
        now = time.perf_counter()
    return done / (now - start)
