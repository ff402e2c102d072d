"""Every target in atheris's hands, one after the other on each core: ``make fuzz``.

libFuzzer keeps what reaches new code and changes that further. A fault is an exception that is not documented, memory
over the limit, or an input that takes too long; it is kept, and goes into ``tests/fuzz/corpus`` with the repair.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fuzz.targets import targets
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

MEMORY_MIB = 1024
"""Of the whole process. A decoder's own is bounded more narrowly in ``test_memory_is_bounded_by_the_input``."""
INPUT_SECONDS = 5
LONGEST_INPUT_BYTES = 64 * 1024


class Fuzzed(NamedTuple):
    """What became of one target. ``fault``: what libFuzzer says at the end, if it found something."""

    name: str
    runs: int
    coverage: int
    fault: str


def fuzz(name: str, seconds: int, kept: Path) -> Fuzzed:
    """One target for so long; an input that is a fault is in ``kept`` afterwards."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("atheris_targets.py")),
        name,
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={INPUT_SECONDS}",
        f"-max_len={LONGEST_INPUT_BYTES}",
        f"-artifact_prefix={kept}/{name.replace(' ', '-')}-",
    ]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    runs = re.findall(r"^Done (\d+) runs", result.stderr, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+)", result.stderr)
    fault = "" if result.returncode == 0 and runs else (result.stdout + result.stderr)[-3000:]
    return Fuzzed(name, int(runs[-1]) if runs else 0, int(coverage[-1]) if coverage else 0, fault)


def main() -> int:
    """The exit code."""
    names = [target.name for target in targets()]
    parser = argparse.ArgumentParser(prog="fuzz.coverage_guided", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long for each target (default: 60)")
    parser.add_argument("target", nargs="?", choices=names, help="only this one")
    arguments = parser.parse_args()
    chosen = [arguments.target] if arguments.target else names
    kept = Path(tempfile.mkdtemp(prefix="pmap-fuzz-"))
    found: list[Fuzzed] = []
    columns = (TextColumn("fuzz"), BarColumn(), MofNCompleteColumn(), TextColumn("targets"), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = progress.add_task("fuzz", total=len(chosen))
        for one in pool.map(lambda name: fuzz(name, arguments.seconds, kept), chosen):
            found.append(one)
            progress.console.print(f"{one.name}: {one.runs:,} runs, {one.coverage} branches", highlight=False)
            progress.update(bar, advance=1)
    faults = [one for one in found if one.fault]
    for one in faults:
        print(f"--- {one.name} ---\n{one.fault}")
    print(f"{sum(one.runs for one in found):,} runs of {len(found)} targets, faults: {len(faults)}")
    if faults:
        print(f"The inputs are in {kept}.")
        return 1
    kept.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
