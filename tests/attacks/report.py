"""The rows as a page, and as a table of what was expected and what was seen.

``python -m attacks.report`` (with ``tests`` on the path: ``make attacks``) runs every row's tests, prints the table and
fails if anything differs. ``python -m attacks.report --page`` writes ``docs/attacks.md``.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from attacks.rows import ROWS, SECTIONS, find_tests, number_of
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/attacks.md"

_HEAD = """\
# Attacks and their verdicts

What a malicious host, a lying client or bad luck does, who has to notice, and the verdict that its test sees. Each test
runs against the real enclave core, store, host and client ([attack-testing.md](attack-testing.md) has the tool); it
asserts the exact class of the error, that no handler ran where the enclave refuses, and that an alarm stays after a
restart and a crash.

This page is made from `tests/attacks/rows.py`; `make attacks` runs all rows and compares. `make engines` runs them
[on shared engines](#on-shared-engines) as well.

Who notices: **L** the enclave does not start · **E** the enclave refuses before it executes · **C** the client refuses
the answer · **N** the client's next operation · **X** two parties who compare their evidence · **S** prevented for
whoever waits until a commit is stable · **T** nobody answers, and that is all · **ok** it must not alarm and must lose
nothing that was acknowledged.
"""
_ENGINES = """
## On shared engines

`make engines` runs every row once more with its stores on PostgreSQL, etcd and S3 ([stores.md](stores.md)), whose
owner changes objects where the owner of a folder changes rows. Not there:

"""
_NOT_YET = """
## Not covered yet

| row | attack | who notices | why there is no test |
|---:|---|---|---|
"""


def page() -> str:
    """``docs/attacks.md``."""
    by_row = find_tests()
    lines = [_HEAD]
    for section in SECTIONS:
        covered = [row for row in section.rows if not row.not_yet]
        if not covered:
            continue
        lines.append(
            f"\n## {section.title}\n\n| row | attack | who notices | verdict | test |\n|---:|---|---|---|---|\n"
        )
        for row in covered:
            shown = "<br>".join(f"`{test}`" for test in by_row[row.number])
            lines.append(f"| {row.number} | {row.attack} | {row.who} | {row.verdict} | {shown} |\n")
    lines.append(_ENGINES)
    reasons: dict[str, list[str]] = {}
    for row in ROWS.values():
        if row.folder_only:
            reasons.setdefault(row.folder_only, []).append(row.number)
    lines += [f"- {', '.join(numbers)}: {reason}\n" for reason, numbers in reasons.items()]
    uncovered = [row for row in ROWS.values() if row.not_yet]
    if uncovered:
        lines.append(_NOT_YET)
    lines += [f"| {row.number} | {row.attack} | {row.who} | {row.not_yet} |\n" for row in uncovered]
    return "".join(lines)


class _Watcher:
    """Collects what the tests noted."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        if not name.startswith("test_row_"):
            if report.failed:
                self.failed[name] = report.outcome
            return
        number = number_of(name)
        if report.failed or (report.skipped and report.when == "call"):
            self.failed[number] = f"{report.outcome} during {report.when}"
        for key, value in report.user_properties:
            if key == "seen" and report.when == "call" and value not in self.seen[number]:
                self.seen[number].append(value)


def run(arguments: list[str]) -> int:
    """Run every row and print the table; the exit code."""
    watcher, begun = _Watcher(), time.monotonic()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "--no-summary", "-W", "default", *arguments]
    code = pytest.main([str(Path(__file__).parent), *options], plugins=[watcher])
    table = Table("row", "attack", "verdict expected", "verdict seen", "")
    wrong = list(watcher.failed)
    for row in ROWS.values():
        seen = "; ".join(watcher.seen[row.number])
        if row.not_yet:
            table.add_row(row.number, row.attack, row.who, f"not covered yet: {row.not_yet}", "-", style="dim")
            continue
        equal = seen == row.verdict and row.number not in watcher.failed
        if not equal:
            wrong.append(row.number)
            seen = seen or watcher.failed.get(row.number, "nothing")
        table.add_row(row.number, row.attack, row.verdict, seen, "[green]=[/]" if equal else "[bold red]DIFFERS[/]")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    covered = sum(not row.not_yet for row in ROWS.values())
    seconds = time.monotonic() - begun
    print(f"{covered} rows, {len(ROWS) - covered} not covered yet, {len(set(wrong))} differ; {seconds:.0f} s")
    return 1 if wrong or code else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--page"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.exit(run(sys.argv[1:]))
