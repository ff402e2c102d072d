"""Measuring side by side: every contender does one round in turn, and ratios are taken within a round.

A machine's mood changes over minutes: interleaving gives both sides of a ratio the same mood, and the median over
rounds drops the outliers.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Round = Callable[[], float]
"""Does one round of work and returns its figure: a rate or a cost."""


@dataclass
class Figure:
    """One result. ``bound`` is what it should keep to; ``low``/``high`` its spread over the rounds."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    bound: float | None = None
    at_least: bool = True
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def line(self) -> str:
        """One line for people."""
        bound = ""
        if self.bound is not None:
            sign = "≥" if self.at_least else "≤"
            bound = f"  (bound {sign} {self.bound:g}: {'holds' if self.holds else 'MISSED'})"
        spread = f" [{self.low:.3g} … {self.high:.3g}]" if self.low != self.high else ""
        return f"{self.name} = {self.value:.3g} {self.unit}{spread}{bound}"


def interleave(contenders: Mapping[str, Round], rounds: int) -> dict[str, list[float]]:
    """Each contender's figures, round by round; the order turns around every other round."""
    results: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            results[name].append(contenders[name]())
    return results


def ratio(
    name: str, ours: list[float], theirs: list[float], bound: float | None, *, at_least: bool = True, note: str = ""
) -> Figure:
    """The median over rounds of ours / theirs."""
    quotients = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Figure(
        name,
        statistics.median(quotients),
        min(quotients),
        max(quotients),
        "x",
        bound,
        at_least,
        note,
        {"ours": statistics.median(ours), "theirs": statistics.median(theirs)},
    )


def figure(
    name: str, values: list[float], unit: str, bound: float | None = None, *, at_least: bool = True, note: str = ""
) -> Figure:
    """The median of plain values."""
    return Figure(name, statistics.median(values), min(values), max(values), unit, bound, at_least, note)


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
