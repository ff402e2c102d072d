"""What the demo shows: numbered steps, progress bars, and the table at the end.

On a terminal with colours and bars; without one, as in CI, in plain lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Advance = Callable[[int], None]
"""Tells how many entries were done since the last call; from any thread."""

_PLAIN_REPORTS: Final = 4
"""Without a terminal, progress is told so many times."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of the final table. ``shown`` is None for a step that failed."""

    title: str
    shown: str | None
    seconds: float


class Show:
    """Everything that the demo prints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[Shown] = []

    def title(self, text: str) -> None:
        """The demo's headline."""
        self._console.print(f"[bold]{escape(text)}[/]\n")

    def say(self, text: str) -> None:
        """A line below the current step."""
        self._console.print(f"  {escape(text)}", soft_wrap=True)

    def exhibit(self, heading: str, text: str) -> None:
        """Text to be shown as it is, every line of it."""
        self._console.print(f"\n  [bold red]{escape(heading)}[/]")
        for line in text.splitlines():
            # Evidence is to be copied: no line of it is wrapped.
            self._console.print(f"    {line}" if line else "", markup=False, soft_wrap=True)
        self._console.print()

    def step(self, title: str, run: Callable[[], str]) -> None:
        """Carry out a step; ``run`` returns what it has shown. Lets pass, and notes, what ``run`` raises."""
        self._console.print(f"[bold cyan]{len(self._rows) + 1}.[/] [bold]{escape(title)}[/]")
        begin = time.perf_counter()
        try:
            shown = run()
        except BaseException:
            self._rows.append(Shown(title, None, time.perf_counter() - begin))
            raise
        seconds = time.perf_counter() - begin
        self._rows.append(Shown(title, shown, seconds))
        self._console.print(f"  [green]ok[/] {escape(shown)} [dim]({seconds:.1f} s)[/]", soft_wrap=True)

    @contextmanager
    def progress(self, doing: dict[str, int]) -> Iterator[dict[str, Advance]]:
        """Bars, one for each name in ``doing``, whose values are the totals."""
        if not self._console.is_terminal:
            yield {name: self._plain(name, total) for name, total in doing.items()}
            return
        columns = (TextColumn("  {task.description:<6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as bars:

            def bar(name: str, total: int) -> Advance:
                task = bars.add_task(name, total=total)
                return lambda count: bars.advance(task, count)

            yield {name: bar(name, total) for name, total in doing.items()}

    def _plain(self, name: str, total: int) -> Advance:
        done = told = 0

        def advance(count: int) -> None:
            nonlocal done, told
            done += count
            if (quarter := done * _PLAIN_REPORTS // max(total, 1)) > told:
                told = quarter
                self.say(f"{name}: {done} of {total}")

        return advance

    def table(self) -> None:
        """The end: what was shown, and how long each step took."""
        table = Table(title="What was shown", title_justify="left", show_lines=False)
        table.add_column("", justify="right")
        table.add_column("step")
        table.add_column("what was shown", overflow="fold")
        table.add_column("time", justify="right", no_wrap=True)
        for number, row in enumerate(self._rows, start=1):
            shown = "[bold red]DIFFERS FROM WHAT WAS EXPECTED[/]" if row.shown is None else escape(row.shown)
            table.add_row(str(number), escape(row.title), shown, f"{row.seconds:.1f} s")
        self._console.print()
        self._console.print(table)
