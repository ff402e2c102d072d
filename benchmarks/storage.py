"""The embedded map beside its peers: durable commits of 1, 50 and 1000 puts, reads, scans, at equal sizes."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmarks.measure import Figure, Round, Series, cpu_rate, interleave, medians, ratio
from benchmarks.peers import AES_GCM, CONTENDERS, FULL, LMDB, OURS, SQLCIPHER, Contender, available, make
from benchmarks.scale import PEER_COUNT, Scale
from benchmarks.stores import LOAD_PUTS, scratch
from benchmarks.workload import names, values

Made = dict[str, Contender]
Kinds = dict[str, Series]
"""Of each kind of work, each contender's rates."""

_BATCHES: Final = 16  # different batches of puts, taken in turn
_READS: Final = 10_000  # reads between two looks at the clock

NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "commit1": (OURS, LMDB, FULL),
    "commit50": (OURS, LMDB),
    "commit1000": (OURS, SQLCIPHER, AES_GCM),
    "get": (OURS, LMDB),
    "scan": (OURS, LMDB),
}
"""Whom the figures compare in each kind of work."""


def peer_figures(scale: Scale) -> tuple[list[Figure], dict[str, object]]:
    """Every figure that names a peer, and, for the plots, the rates: entries -> kind of work -> contender."""
    curves: dict[str, object] = {}
    figures: list[Figure] = []
    for count in (PEER_COUNT, *scale.peer_counts):
        kinds = compare(count, scale)
        curves[str(count)] = {kind: medians(series) for kind, series in kinds.items()}
        if count == PEER_COUNT:
            figures = _figures(kinds)
    return figures, curves


def _figures(kinds: Kinds) -> list[Figure]:
    one, fifty, thousand = kinds["commit1"], kinds["commit50"], kinds["commit1000"]
    get, scan = kinds["get"], kinds["scan"]
    # Costs are times: theirs over ours of the rates.
    made = [
        _beside("commit_vs_lmdb", one, LMDB, OURS, 1.2, "time of a durable commit of 1 put", at_least=False),
        _beside("commit50_vs_lmdb", fifty, LMDB, OURS, 0.8, "time of a durable commit of 50 puts", at_least=False),
        _beside("batch1000_vs_sqlcipher", thousand, OURS, SQLCIPHER, 1.5, "puts/s, 1000 a durable commit"),
        _beside("batch1000_vs_lmdb_aesgcm", thousand, OURS, AES_GCM, 3.0, "puts/s, 1000 a durable commit"),
        _beside("get_vs_lmdb", get, OURS, LMDB, 1.5, "random gets per CPU second"),
        _beside("scan_vs_lmdb", scan, OURS, LMDB, 1.0, "entries per CPU second, whole map in order"),
        _beside("whole_map_speedup", one, OURS, FULL, 30.0, 'durable one-put commits/s, against sweep="full"'),
    ]
    return [figure for figure in made if figure is not None]


def _beside(
    name: str, rates: Series, over: str, under: str, bound: float, note: str, *, at_least: bool = True
) -> Figure | None:
    if over not in rates or under not in rates:
        return None
    made = ratio(name, rates[over], rates[under], bound, at_least=at_least, note=f"{note}, {PEER_COUNT} entries")
    made.details = {f"{contender}, per s": rate for contender, rate in medians(rates).items()}
    return made


# --- measuring ------------------------------------------------------------------------------------------


def compare(count: int, scale: Scale) -> Kinds:
    """Rates of every kind of work on stores of ``count`` entries."""
    wanted = available(CONTENDERS if scale.every_peer else {name for names_ in NEEDED.values() for name in names_})
    keys = names(count)
    with scratch() as folder, ExitStack() as stack:
        made = open_loaded(folder, wanted, keys, stack)
        kinds: Kinds = {}
        for kind, needed in NEEDED.items():
            contenders = {
                name: _round(kind, contender, keys, scale.round_seconds)
                for name, contender in made.items()
                if scale.every_peer or name in needed
            }
            kinds[kind] = interleave(contenders, scale.rounds)
        return kinds


def open_loaded(folder: Path, wanted: Iterable[str], keys: list[str], stack: ExitStack) -> Made:
    """A store of each kind with all of ``keys``, closed with the stack."""
    made: Made = {}
    value = values()
    for number, name in enumerate(wanted):
        made[name] = contender = stack.enter_context(closing(make(name, folder / str(number))))
        for start in range(0, len(keys), LOAD_PUTS):
            contender.put_all([(contender.key(key), value()) for key in keys[start : start + LOAD_PUTS]])
    return made


def _round(kind: str, contender: Contender, names_: list[str], seconds: float) -> Round:
    match kind:
        case "get":
            return _getting(contender, names_, seconds)
        case "scan":
            return _scanning(contender, len(names_))
        case _:
            return _committing(contender, names_, int(kind.removeprefix("commit")), seconds)


def _committing(contender: Contender, names_: list[str], puts: int, seconds: float) -> Round:
    """Durable commits of ``puts`` random puts each: puts per second."""
    source, value = random.Random(puts), values()
    batches = [
        [(contender.key(name), value()) for name in source.sample(names_, puts)]
        for _ in range(_BATCHES if puts > 1 else 1000)
    ]
    turn = cycle(batches)
    put, put_all = contender.put, contender.put_all

    def step() -> int:
        batch = next(turn)
        if puts == 1:
            put(*batch[0])
        else:
            put_all(batch)
        return puts

    return lambda: rate_for(seconds, step)


def _getting(contender: Contender, names_: list[str], seconds: float) -> Round:
    """Gets of random keys, per second of CPU."""
    source = random.Random(5)
    keys = [contender.key(source.choice(names_)) for _ in range(_READS)]

    def work() -> int:
        get = contender.reader()
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
