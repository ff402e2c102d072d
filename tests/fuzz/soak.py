"""The long run: ``python -m fuzz.soak --steps 1000000`` (with ``tests`` on the path: ``make soak``).

Worlds of some hundred random moves each, in a process for each core; every other one has an honest host, which must
cause no alarm. Every world has a seed, and a seed is a run: one that fails is played again alone by ``--seed SEED``.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from typing import NamedTuple

from fuzz.moves import HONEST, MALICIOUS
from fuzz.world import World
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

STEPS_PER_WORLD = 300
WORLDS_PER_TASK = 20
ALARMS = ("RollbackDetected", "ForkDetected")


class Played(NamedTuple):
    """What became of one world. ``fault``: the traceback of the promise that was broken."""

    seed: int
    counts: Counter[str]
    fault: str | None


def is_honest(seed: int) -> bool:
    """Whether this world's host is honest."""
    return seed % 2 == 0


def play(seed: int, steps: int = STEPS_PER_WORLD) -> Counter[str]:
    """One world; what happened in it. Raises :class:`AssertionError` with the move that broke a promise."""
    rng = random.Random(seed)
    honest = is_honest(seed)
    moves = HONEST if honest else MALICIOUS
    weights = [move.weight for move in moves]
    world = World(honest=honest, people=2 + seed % 3, seed=seed)
    history: list[str] = []
    try:
        for _ in range(steps):
            (move,) = rng.choices(moves, weights)
            numbers = [rng.randrange(1 << 16) for _ in range(3)]
            history.append(f"{move.name} {numbers}")
            move.make(world, *numbers)
        world.finish()
    except Exception as error:
        error.add_note(f"seed {seed} ({'honest' if honest else 'malicious'}), move {len(history)}: {history[-8:]}")
        raise
    world.counts["steps"] += steps
    return world.counts


def play_all(seeds: list[int]) -> list[Played]:
    """A task of one process."""
    played = []
    for seed in seeds:
        try:
            played.append(Played(seed, play(seed), None))
        except Exception:
            played.append(Played(seed, Counter(steps=STEPS_PER_WORLD), traceback.format_exc()))
    return played


def run(first: int, steps: int, processes: int) -> Iterator[Played]:
    """Play worlds from seed ``first`` on until there were so many steps."""
    seeds = iter(range(first, first + -(-steps // STEPS_PER_WORLD)))
    with ProcessPoolExecutor(processes) as pool:
        tasks = []
        while task := list(islice(seeds, WORLDS_PER_TASK)):
            tasks.append(pool.submit(play_all, task))
        try:
            for done in as_completed(tasks):
                yield from done.result()
        finally:
            pool.shutdown(cancel_futures=True)


class Tally:
    """What all worlds together came to."""

    def __init__(self) -> None:
        self.honest: Counter[str] = Counter()
        self.malicious: Counter[str] = Counter()
        self.faults: list[int] = []

    @property
    def steps(self) -> int:
        return self.honest["steps"] + self.malicious["steps"]

    def add(self, played: Played) -> None:
        """One more world."""
        (self.honest if is_honest(played.seed) else self.malicious).update(played.counts)
        if played.fault is not None:
            self.faults.append(played.seed)

    def report(self) -> str:
        """For people."""
        lines = []
        for name, counts in (("honest host", self.honest), ("malicious host", self.malicious)):
            lines.append(f"{name}: {counts['steps']:,} steps")
            lines += [f"  {what}: {number:,}" for what, number in sorted(counts.items()) if what != "steps"]
        lines.append(f"alarms with an honest host: {sum(self.honest[alarm] for alarm in ALARMS)}")
        lines.append(f"faults: {len(self.faults)}" + (f", seeds {sorted(self.faults)}" if self.faults else ""))
        return "\n".join(lines)


def soak(first: int, steps: int, processes: int) -> int:
    """The long run, with a bar; the exit code."""
    console, tally, begun = Console(stderr=True), Tally(), time.monotonic()
    columns = (TextColumn("soak"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    print(f"seeds from {first} on, {processes} processes; to repeat this run: make soak STEPS={steps} FIRST={first}")
    last = first
    try:
        with Progress(*columns, TextColumn("{task.fields[faults]} faults"), console=console) as progress:
            bar = progress.add_task("soak", total=steps, faults=0)
            for played in run(first, steps, processes):
                tally.add(played)
                last = max(last, played.seed)
                if played.fault is not None:
                    console.print(played.fault, markup=False, highlight=False)
                progress.update(bar, completed=tally.steps, faults=len(tally.faults))
    except KeyboardInterrupt:
        print("interrupted: this is what was played until now")
    seconds = time.monotonic() - begun
    print(f"{tally.steps:,} steps in {seconds:.0f} s ({tally.steps / seconds:.0f} a second), seeds {first}..{last}")
    print(tally.report())
    return 1 if tally.faults or tally.steps < steps else 0


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="fuzz.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="how many moves in all (default: a million)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    parser.add_argument("--first", type=int, help="the first world's seed (default: a random one)")
    parser.add_argument("--seed", type=int, help="play this world only")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(dict(play(arguments.seed)))
        return 0
    first = random.SystemRandom().randrange(1 << 32) if arguments.first is None else arguments.first
    return soak(first, arguments.steps, arguments.processes)


if __name__ == "__main__":
    sys.exit(main())
