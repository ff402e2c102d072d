"""Measuring side by side: every contender does one round in turn, and ratios are taken within a round.

A machine's mood changes over minutes: interleaving gives both sides of a ratio the same mood, and the median over
many short rounds drops the outliers. The spread that goes with each figure is the middle half of the rounds.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.catalogue import PROMISES, Promise

Round = Callable[[], float]
"""Does one round of work and returns its figure: a rate or a cost."""
Series = Mapping[str, Sequence[float]]
"""Of each contender the figures, round by round."""


@dataclass
class Figure:
    """The result for a name of :data:`benchmarks.catalogue.PROMISES`; ``low`` and ``high``: quartiles of its rounds."""

    name: str
    value: float
    low: float
    high: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def promise(self) -> Promise:
        """What it is to keep to."""
        return PROMISES[self.name]

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        promise = self.promise
        return self.value >= promise.bound if promise.at_least else self.value <= promise.bound

    def line(self) -> str:
        """One line for people."""
        promise = self.promise
        bound = f"{'≥' if promise.at_least else '≤'} {promise.bound:g}"
        value = f"{self.value:.4g} {promise.unit} [{self.low:.4g} … {self.high:.4g}]"
        return f"{self.name:<24} {value:<34} {bound:<8} {'holds' if self.holds else 'MISSED'}"

    def as_json(self) -> dict[str, Any]:
        """For the file that machines read."""
        return {
            "value": self.value,
            "bound": self.promise.bound,
            "holds": self.holds,
            "spread": [self.low, self.high],
            "details": self.details,
        }


def interleave(contenders: Mapping[str, Round], rounds: int) -> dict[str, list[float]]:
    """Each contender's figures, round by round; the order turns around every other round."""
    results: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            results[name].append(contenders[name]())
    return results


def figure(name: str, values: Sequence[float], details: dict[str, Any] | None = None) -> Figure:
    """The median of the rounds."""
    low, middle, high = quartiles(values)
    return Figure(name, middle, low, high, details or {})


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Of each round the one side over the other: a ratio's rounds."""
    return [a / b for a, b in zip(over, under, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def medians(series: Series) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(values) for name, values in series.items()}


def percentile(ordered: Sequence[float], part: float) -> float:
    """The nearest-rank percentile of sorted values; ``part`` from 0 to 1."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def rate(work: Callable[[], int]) -> float:
    """Operations per second of one call, which returns how many it did."""
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def cpu(work: Callable[[], int]) -> float:
    """CPU seconds of this process per operation."""
    start = time.process_time()
    done = work()
    return (time.process_time() - start) / done


def cpu_rate(work: Callable[[], int]) -> float:
    """Operations per second of this process's CPU: where nothing is waited for, the rate of a free machine."""
    return 1 / cpu(work)
