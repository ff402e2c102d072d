"""``python -m formal.report`` (with ``tests`` on the path: ``make model``): check every model, find every mutant
wrong, replay traces of the code, and print a table. It fails if a model is violated, a mutant survives, or a trace does
not fit.
"""

from __future__ import annotations

import os
import sys
import time

from formal.recording import record
from formal.runs import LONG_MUTANTS, MUTANTS, TRUE, traced
from formal.tlc import HOLDS, Result, Run, check
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

TRACES = 100
MOVES = 40
WORKERS = 2


def _tell(result: Result) -> str:
    if result.as_expected:
        return "[green]holds[/]" if result.verdict == HOLDS else f"[green]found: {result.verdict}[/]"
    return f"[bold red]{result.verdict}, expected {result.run.expected}[/]"


def main() -> int:
    """The exit code."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    begun = time.monotonic()
    results: list[Result] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stdout.isatty()) as progress:
        whole = progress.add_task("models", total=len(TRUE) + len(MUTANTS) + len(LONG_MUTANTS) + 2)

        def run(one: Run, *, short: bool = False) -> Result:
            def tell(depth: int, distinct: int) -> None:
                progress.update(whole, description=f"{one.name}: {distinct:,} states, depth {depth}")
                if not sys.stdout.isatty():
                    print(f"  {one.name}: {distinct:,} states, depth {depth}", flush=True)

            progress.update(whole, description=one.name)
            result = check(
                one, workers=1 if short else WORKERS, heap="1g" if short else "4g", short=short, progress=tell
            )
            progress.advance(whole)
            results.append(result)
            if not sys.stdout.isatty():
                console.print(f"{one.name}: {_tell(result)}, {result.seconds:.0f} s")
            return result

        for one in TRUE:
            run(one)
        for one in MUTANTS:
            run(one, short=True)
        for one in LONG_MUTANTS:
            run(one)
        first = int.from_bytes(os.urandom(3), "big")
        traces = [record(seed, MOVES).events for seed in range(first, first + TRACES)]
        progress.advance(whole)
        events = sum(len(trace) for trace in traces)
        run(traced(f"{TRACES} traces of the code, {events:,} events, seeds from {first}", traces))
    table = Table("model", "states", "depth", "seconds", "CPU seconds", "verdict")
    for result in results:
        depth = str(result.depth) if result.depth else ""  # TLC does not say how deep a liveness counterexample is
        times = f"{result.seconds:.0f}", f"{result.cpu:.0f}"
        table.add_row(result.run.name, f"{result.distinct:,}", depth, *times, _tell(result))
    console.print(table)
    wrong = [result for result in results if not result.as_expected]
    for result in wrong:
        print(f"\n--- {result.run.name} ---\n{result.output[-20_000:]}")
    mutants = len(MUTANTS) + len(LONG_MUTANTS)
    print(
        f"{len(TRUE)} models, {mutants} mutants, {TRACES} traces of {events:,} events; {len(wrong)} not as they should"
        f" be; {time.monotonic() - begun:.0f} s, {sum(result.cpu for result in results):.0f} CPU seconds of Java"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
