"""Keys, values and the mixes of operations: the same ones for every contender, and the same ones each time.

Keys are 16 characters of hexadecimal, values 100 random bytes. YCSB's core workloads are those of Cooper et al.,
"Benchmarking Cloud Serving Systems with YCSB", SoCC 2010, table 2; zipfian numbers are drawn as in Gray et al.,
"Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994, with YCSB's constant 0.99.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final, NamedTuple

KEY_CHARACTERS: Final = 16
VALUE_BYTES: Final = 100
ENTRY_BYTES: Final = KEY_CHARACTERS + VALUE_BYTES
"""The live bytes of one entry: what "live" means in every figure here."""
ZIPFIAN_CONSTANT: Final = 0.99
LONGEST_SCAN: Final = 100  # entries; YCSB draws the length uniformly from 1 to this
_VALUES: Final = 256


def names(count: int, seed: int = 1) -> list[str]:
    """``count`` random keys."""
    digits = random.Random(f"{seed} {count}").randbytes(count * KEY_CHARACTERS // 2).hex()
    return [digits[at : at + KEY_CHARACTERS] for at in range(0, len(digits), KEY_CHARACTERS)]


def values(seed: int = 2) -> Callable[[], bytes]:
    """Random values, a few of them in turn: making them is not what is measured."""
    source = random.Random(seed)
    return cycle([source.randbytes(VALUE_BYTES) for _ in range(_VALUES)]).__next__


class Zipfian:
    """Ranks 0, 1, 2, ... below ``count``; rank r comes with a probability proportional to 1 / (r + 1)^0.99."""

    def __init__(self, count: int, seed: int = 3) -> None:
        self._source = random.Random(seed)
        self._count = count
        self._zeta = sum(1 / rank**ZIPFIAN_CONSTANT for rank in range(1, count + 1))
        second = 1 + 0.5**ZIPFIAN_CONSTANT
        self._alpha = 1 / (1 - ZIPFIAN_CONSTANT)
        self._eta = (1 - (2 / count) ** (1 - ZIPFIAN_CONSTANT)) / (1 - second / self._zeta)
        self._second = second

    def draw(self) -> int:
        """One rank."""
        uniform = self._source.random()
        scaled = uniform * self._zeta
        if scaled < 1:
            return 0
        if scaled < self._second:
            return 1
        return min(self._count - 1, int(self._count * (self._eta * uniform - self._eta + 1) ** self._alpha))


class Step(NamedTuple):
    """One operation: ``read``, ``update``, ``insert``, ``modify`` (read, then write) or ``scan``."""

    what: str
    key: str
    length: int = 0


@dataclass(frozen=True)
class Mix:
    """A YCSB core workload: parts of each operation, and whether reads favour the popular or the latest keys."""

    name: str
    parts: dict[str, float]
    latest: bool = False

    def steps(self, keys: list[str], count: int, seed: int = 4) -> list[Step]:
        """``count`` operations on a store that holds ``keys``. Inserted keys are new and follow from the seed."""
        source = random.Random(f"{self.name} {seed}")
        zipfian = Zipfian(len(keys), seed)
        known = list(keys)
        fresh = _new_keys(source)
        whats, weights = list(self.parts), list(self.parts.values())
        steps = []
        for what in source.choices(whats, weights, k=count):
            if what == "insert":
                known.append(next(fresh))
                steps.append(Step(what, known[-1]))
                continue
            rank = zipfian.draw()
            # Keys are random, so by their place in the list popular ones are scattered over the key space.
            key = known[-1 - rank] if self.latest else known[rank]
            steps.append(Step(what, key, source.randint(1, LONGEST_SCAN) if what == "scan" else 0))
        return steps


def _new_keys(source: random.Random) -> Iterator[str]:
    while True:
        yield source.randbytes(KEY_CHARACTERS // 2).hex()


YCSB: Final = (
    Mix("A", {"read": 0.5, "update": 0.5}),
    Mix("B", {"read": 0.95, "update": 0.05}),
    Mix("C", {"read": 1.0}),
    Mix("D", {"read": 0.95, "insert": 0.05}, latest=True),
    Mix("E", {"scan": 0.95, "insert": 0.05}),
    Mix("F", {"read": 0.5, "modify": 0.5}),
)
