"""The figures of a large map, which share one store of a million entries: it takes longer to write than to measure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure
from benchmarks.resident import resident_figures
from benchmarks.restart import restart_figure
from benchmarks.scale import BIG_COUNT, SMALL_COUNT, Scale
from benchmarks.stores import scratch, write_store


def large_figures(wanted: Collection[str], scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """Those ``wanted`` of ``flat_cost``, ``memory_per_live_byte`` and ``restart_mib_s``; curves by figure."""
    figures: list[Figure] = []
    curves: dict[str, Any] = {}
    with scratch(in_memory=True) as folder:
        big = _write(folder, BIG_COUNT)
        if "flat_cost" in wanted or "memory_per_live_byte" in wanted:
            counts = (SMALL_COUNT, *scale.cost_counts)
            stores = {BIG_COUNT: big, **{count: _write(folder, count) for count in counts}}
            made, curves["flat_cost"] = resident_figures(stores, scale)
            figures += made
        if "restart_mib_s" in wanted:  # last: it lets the store's enclave commit
            restart, curves["restart_mib_s"] = restart_figure(big, scale)
            figures.append(restart)
    return figures, curves


def _write(folder: Path, count: int) -> Path:
    store = folder / str(count)
    write_store(store, count)
    return store
