"""Storage figures: the embedded map beside raw LMDB and others, at equal durability, value and key sizes."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lmdb

from benchmarks.measure import Figure, cpu, figure, interleave, rate, ratio
from host_store import EmbeddedMap, open_map
from pmap.sweep import SweepPolicy

KEY = bytes(range(32))
KEY_CHARACTERS = 16
VALUE_BYTES = 100
LOAD_PUTS = 10_000  # puts in one commit while loading


def names(count: int) -> list[str]:
    """``count`` random keys of 16 characters, the same ones each time."""
    source = random.Random(count)
    return [source.randbytes(KEY_CHARACTERS // 2).hex() for _ in range(count)]


@contextmanager
def folder(where: Path | None = None) -> Iterator[Path]:
    """A scratch folder on a real disk."""
    path = Path(tempfile.mkdtemp(prefix="pmap-bench-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def loaded_map(path: Path, keys: list[str], sweep: SweepPolicy = "incremental") -> EmbeddedMap:
    """An embedded map with all of ``keys``."""
    opened = open_map(path, KEY, max_size="4g" if sweep == "incremental" else "256m", sweep=sweep)
    source = random.Random(1)
    for start in range(0, len(keys), LOAD_PUTS):
        opened.update({key: source.randbytes(VALUE_BYTES) for key in keys[start : start + LOAD_PUTS]})
    return opened


def loaded_lmdb(path: Path, keys: list[str]) -> lmdb.Environment:
    """Raw LMDB, as its documentation opens it: durable commits, nothing encrypted."""
    path.mkdir()
    environment = lmdb.open(str(path), map_size=8 << 30)
    source = random.Random(1)
    for start in range(0, len(keys), LOAD_PUTS):
        with environment.begin(write=True) as transaction:
            for key in keys[start : start + LOAD_PUTS]:
                transaction.put(key.encode(), source.randbytes(VALUE_BYTES))
    return environment


def ours_putting(opened: EmbeddedMap, keys: list[str], commits: int, puts: int) -> Callable[[], float]:
    """A round of durable commits of ``puts`` random puts each: puts per second."""
    source = random.Random(2)
    values = [source.randbytes(VALUE_BYTES) for _ in range(64)]

    def work() -> int:
        for _ in range(commits):
            if puts == 1:
                opened[source.choice(keys)] = values[source.randrange(64)]
            else:
                opened.update({source.choice(keys): values[source.randrange(64)] for _ in range(puts)})
        return commits * puts

    return lambda: rate(work)


def lmdb_putting(environment: lmdb.Environment, keys: list[str], commits: int, puts: int) -> Callable[[], float]:
    """The same with raw LMDB."""
    source = random.Random(2)
    values = [source.randbytes(VALUE_BYTES) for _ in range(64)]

    def work() -> int:
        for _ in range(commits):
            with environment.begin(write=True) as transaction:
                for _ in range(puts):
                    transaction.put(source.choice(keys).encode(), values[source.randrange(64)])
        return commits * puts

    return lambda: rate(work)


def flat_cost(small: int = 1_000, large: int = 1_000_000, *, rounds: int = 7, commits: int = 1_000) -> Figure:
    """CPU of one one-put commit, log only, in a large map over that in a small one."""
    contenders = {}
    for count in (small, large):
        keys = names(count)
        with folder() as path:
            opened = loaded_map(path / "map", keys)
            opened.close()
        contenders[count] = _committing(opened, keys, commits)
    results = interleave({str(count): contenders[count] for count in contenders}, rounds)
    return ratio("flat_cost", results[str(large)], results[str(small)], 1.5, at_least=False, note="CPU s per commit")


def _committing(opened: EmbeddedMap, keys: list[str], commits: int) -> Callable[[], float]:
    """Commits whose records go nowhere: what the enclave itself spends, signature included."""
    source = random.Random(3)
    values = [source.randbytes(VALUE_BYTES) for _ in range(64)]
    log, entries = opened._log, opened._log.entries
    put = super(EmbeddedMap, opened).__setitem__

    def work() -> int:
        for _ in range(commits):
            with entries.transaction():
                put(source.choice(keys), values[source.randrange(64)])
            log.commit()
        return commits

    return lambda: cpu(work)


def against_lmdb(count: int, *, rounds: int = 7) -> list[Figure]:
    """Durable commits of 1 and of 50 puts, as time relative to raw LMDB's."""
    keys = names(count)
    with folder() as path, ExitStack() as stack:
        opened = stack.enter_context(loaded_map(path / "map", keys))
        environment = stack.enter_context(loaded_lmdb(path / "lmdb", keys))
        results = interleave(
            {
                "ours 1": ours_putting(opened, keys, 300, 1),
                "lmdb 1": lmdb_putting(environment, keys, 300, 1),
                "ours 50": ours_putting(opened, keys, 60, 50),
                "lmdb 50": lmdb_putting(environment, keys, 60, 50),
            },
            rounds,
        )
    return [
        # Rates: theirs over ours is the ratio of times.
        ratio("commit_vs_lmdb", results["lmdb 1"], results["ours 1"], 1.2, at_least=False, note="time of 1 put"),
        ratio("commit50_vs_lmdb", results["lmdb 50"], results["ours 50"], 0.8, at_least=False, note="time of 50 puts"),
    ]


def restart(live_mib: int, *, rounds: int = 3) -> list[Figure]:
    """Seconds from nothing to an open, readable map, and live MiB per second."""
    keys = names(live_mib * (1 << 20) // (KEY_CHARACTERS + VALUE_BYTES))
    with folder() as path:
        loaded_map(path / "map", keys).close()

        def work() -> float:
            def opening() -> int:
                with open_map(path / "map", KEY, max_size="4g") as opened:
                    assert len(opened) == len(keys)
                return 1

            return rate(opening)

        rates = [work() for _ in range(rounds)]
    return [
        figure(f"open_{live_mib}mib_s", [1 / r for r in rates], "s"),
        figure("restart_mib_s", [r * live_mib for r in rates], "MiB/s", 150),
    ]
