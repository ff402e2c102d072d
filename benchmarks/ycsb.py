"""YCSB's core workloads A to F on every store, each operation one durable commit or one read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.engines import Get
from benchmarks.measure import Round, interleave, medians, rate
from benchmarks.peers import CONTENDERS, FULL, Contender, available
from benchmarks.scale import PEER_COUNT, Scale
from benchmarks.storage import open_loaded
from benchmarks.stores import scratch
from benchmarks.workload import YCSB, Mix, names, values


def ycsb_curves(scale: Scale) -> dict[str, dict[str, float]]:
    """Workload -> contender -> operations per second. Whole-map sealing is left out: it would take all of the time."""
    if not scale.ycsb_steps:
        return {}
    keys = names(PEER_COUNT)
    wanted = [name for name in available(CONTENDERS) if name != FULL]
    found: dict[str, dict[str, float]] = {}
    with scratch() as folder, ExitStack() as stack:
        made = open_loaded(folder, wanted, keys, stack)
        for mix in YCSB:
            contenders = {name: working(contender, mix, keys, scale) for name, contender in made.items()}
            found[mix.name] = medians(interleave(contenders, max(3, scale.rounds // 3)))
    return found


def working(contender: Contender, mix: Mix, keys: list[str], scale: Scale) -> Round:
    """Rounds of one workload; each goes on where the last one ended, so that inserted keys are new."""
    value, rounds = values(), iter(range(1_000_000))

    def next_round() -> float:
        steps = [
            (step.what, contender.key(step.key), step.length)
            for step in mix.steps(keys, scale.ycsb_steps, seed=next(rounds))
        ]
        return rate(lambda: carry_out(contender, steps, value))

    return next_round


def carry_out(contender: Contender, steps: list[tuple[str, Any, int]], value: Any) -> int:
    """Do the operations in order; returns how many."""
    get: Get | None = None  # the reader is good until the next write
    for what, key, length in steps:
        if what == "scan":
            contender.scan(key, length)
        if what in ("read", "modify"):
            get = get or contender.reader()
            get(key)
        if what in ("update", "insert", "modify"):
            contender.put(key, value())
            get = None
    return len(steps)
