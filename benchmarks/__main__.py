"""``python -m benchmarks``: measure everything and write the report; ``--quick``: the figures, in about a minute."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.catalogue import PROMISES

RESULTS: Final = Path(__file__).resolve().parent / "results.json"
"""What the last full run found; docs/performance.md and its plots are made of it."""


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns 0 whether bounds are kept or not: that is for the reader to judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this store beside raw LMDB, LMDB with AES-GCM per value, SQLCipher, SQLite, RocksDB,"
        " LevelDB and whole-map sealing. Without options: everything (about 20 minutes), then the plots and tables"
        " of docs/performance.md.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the figures with a bound only, without those of shards and shared engines, in less than a minute",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=list(PROMISES), help=f"these figures only: {', '.join(PROMISES)}"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing: plots and tables of the last full run")
    parser.add_argument("--profile", nargs="+", metavar="NAME", help="measure nothing: where the time of these goes")
    options = parser.parse_args(arguments)
    if options.profile:
        from benchmarks.profiles import show

        return show(options.profile)
    if not options.render:
        found = measure(options.only, quick=options.quick)
        if options.json is not None:
            _write(options.json, found["figures"])
        if options.quick or options.only:
            return 0
        found["profiles"] = _profiles(found["figures"])
        _write(RESULTS, found)
    from benchmarks.plots import draw_all
    from benchmarks.report import write_report

    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    draw_all(results)
    write_report(results)
    return 0


def measure(only: list[str] | None, *, quick: bool) -> dict[str, Any]:
    """Run, telling of each figure in a line. Returns machine, figures and curves."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from benchmarks.machine import describe
    from benchmarks.scale import FULL, QUICK
    from benchmarks.suite import Results, groups_of, run

    # A figure's line is to stay one, also in a pipe and a narrow window.
    out = Console(soft_wrap=True, highlight=False)
    results, started = Results(), time.monotonic()
    shown = Console(stderr=True)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=shown, transient=True
    ) as bar:
        task = bar.add_task("the machine")
        machine = describe()
        for title, figures in run(only, QUICK if quick else FULL, results):
            bar.update(task, description=f"measuring: {title}")
            for figure in figures:
                out.print(figure.line(), markup=False)
    seconds = time.monotonic() - started
    missed = [name for name, figure in results.figures.items() if not figure.holds]
    out.print(f"{len(results.figures)} figures in {seconds:.0f} s, {len(missed)} missed: {', '.join(missed) or 'none'}")
    # A quick run for all leaves out what needs several servers; of the rest, what a missing peer made impossible.
    asked = only or [name for _, names in groups_of(None, quick=quick) for name in names]
    left_out = [name for name in asked if name not in results.figures]
    if left_out:
        out.print(f"not measured, a peer is not installed (the extra 'bench'): {', '.join(left_out)}")
    return {
        "machine": machine,
        "seconds": seconds,
        "figures": results.figures_json(),
        "curves": results.curves,
    }


def _profiles(figures: dict[str, Any]) -> dict[str, list[str]]:
    """Of what was missed: where the time goes."""
    from benchmarks.profiles import SUBJECTS, top_functions

    return {name: top_functions(name) for name, found in figures.items() if not found["holds"] and name in SUBJECTS}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
