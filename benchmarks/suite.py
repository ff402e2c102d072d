"""All that can be measured, in groups that share their preparation, and the run over them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.catalogue import PROMISES
from benchmarks.distributed import engine_figures
from benchmarks.large import large_figures
from benchmarks.mail import mail_figures
from benchmarks.measure import Figure
from benchmarks.scale import QUICK, Scale
from benchmarks.shards import shard_figures
from benchmarks.space import amplification_figure, mail_bytes_figure
from benchmarks.storage import COMPARED, peer_figures
from benchmarks.ycsb import ycsb_curves

Measured = tuple[list[Figure], Any]
"""The figures, and what only the plots and tables show."""


@dataclass(frozen=True)
class Group:
    """``names``: the figures that ``measure`` can make; it is given those that are wanted of them.

    ``several``: they need several servers, whose start alone takes longer than a quick look may.
    """

    title: str
    names: tuple[str, ...]
    measure: Callable[[Collection[str], Scale], Measured]
    several: bool = False


def _bytes(wanted: Collection[str], scale: Scale) -> Measured:
    figures: list[Figure] = []
    samples: list[dict[str, Any]] = []
    if "space_amplification" in wanted:
        made, samples = amplification_figure(scale)
        figures.append(made)
    if "mail_bytes_to_store" in wanted:
        figures.append(mail_bytes_figure())
    return figures, samples


GROUPS: Final = (
    Group("peers", tuple(COMPARED), peer_figures),
    Group("large", ("flat_cost", "memory_per_live_byte", "restart_mib_s"), large_figures),
    Group("mail", ("freshness_cost", "http_vs_echo"), lambda _wanted, scale: mail_figures(scale)),
    Group("shards", ("shard_batch_speedup", "shard_mail_speedup"), lambda _wanted, scale: shard_figures(scale), True),
    Group("bytes", ("space_amplification", "mail_bytes_to_store"), _bytes),
    Group("engines", ("engine_postgresql", "engine_etcd", "engine_s3"), engine_figures, True),
    Group("ycsb", (), lambda _wanted, scale: ([], ycsb_curves(scale))),
)


@dataclass
class Results:
    """What a run has found: figures by name in the catalogue's order, curves by the group's title."""

    figures: dict[str, Figure] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)

    def figures_json(self) -> dict[str, Any]:
        """The figures for the file that machines read."""
        return {name: self.figures[name].as_json() for name in PROMISES if name in self.figures}


def groups_of(names: Collection[str] | None, *, quick: bool = False) -> list[tuple[Group, list[str]]]:
    """The groups to run for these figures, with what is wanted of each; None: for all, and what has no figure.

    A quick run for all leaves out what needs several servers; named, it runs as well.
    """
    if names is None:
        return [(group, list(group.names)) for group in GROUPS if not (quick and group.several)]
    chosen = [(group, [name for name in group.names if name in names]) for group in GROUPS]
    return [(group, wanted) for group, wanted in chosen if wanted]


def run(names: Collection[str] | None, scale: Scale, results: Results) -> Iterator[tuple[str, list[Figure]]]:
    """Measure; yields the title of each group as it begins, with no figures, and again with them at its end."""
    for group, wanted in groups_of(names, quick=scale is QUICK):
        yield group.title, []
        figures, curves = group.measure(wanted, scale)
        kept = [each for each in figures if each.name in wanted]
        results.figures.update({each.name: each for each in kept})
        results.curves[group.title] = curves
        yield group.title, kept
