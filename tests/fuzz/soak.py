"""The long run: ``python -m fuzz.soak --steps 1000000`` (with ``tests`` on the path: ``make soak``).

Worlds of some hundred random moves each, half of them with an honest host. Every world has a seed; one that fails is
played again alone by ``--seed SEED``.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from fuzz.moves import HONEST, MALICIOUS
from fuzz.world import World

STEPS_PER_WORLD = 300


def play(seed: int, steps: int = STEPS_PER_WORLD) -> Counter[str]:
    """One world; what happened in it. Raises :class:`AssertionError` with the move that broke a promise."""
    rng = random.Random(seed)
    honest = seed % 2 == 0
    moves = HONEST if honest else MALICIOUS
    weights = [move.weight for move in moves]
    world = World(honest=honest, people=2 + seed % 3)
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


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="fuzz.soak")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, help="play this world only")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(dict(play(arguments.seed)))
        return 0
    first = seed = random.SystemRandom().randrange(1 << 32)
    counts: Counter[str] = Counter()
    failed: list[int] = []
    begun, told = time.monotonic(), 0.0
    while counts["steps"] < arguments.steps:
        try:
            counts += play(seed)
        except Exception:
            failed.append(seed)
            counts["steps"] += STEPS_PER_WORLD
            traceback.print_exc()
        seed += 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{counts['steps']:,} steps, seeds {first}..{seed - 1}, {len(failed)} failed", flush=True)
    seconds = time.monotonic() - begun
    print(f"{counts['steps']:,} steps in {seed - first} worlds, seeds {first}..{seed - 1}, {seconds:.0f} s")
    for name, count in sorted(counts.items()):
        if name != "steps":
            print(f"  {name}: {count:,}")
    print(f"faults: {len(failed)}" + (f", seeds {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
