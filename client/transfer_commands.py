"""``pmap import`` and ``pmap export``: many entries from and to files, many in one mail, with a progress bar."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from client.commands import report_write, wait_stable_options
from client.connection import Connection, connection_options
from client.output_file import STDOUT, output_file
from client.transfer import Format, format_of, read_entries, write_entries
from wire.errors import PmapError

if TYPE_CHECKING:
    from client.kv import KeyValueClient
    from client.transfer import Entry

Advance = Callable[[int], object]

_format_option = click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="The file's format; by default what its name ends in, and jsonl for -.",
)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_format_option
@click.option("--skip", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N entries.")
@wait_stable_options
@connection_options
def import_(file: str, form: str | None, skip: int, wait_stable: bool, stable_timeout: float, **options: Any) -> None:
    """Write all entries of FILE; - is standard input.

    CSV needs the header 'key,value'. A JSON line is {"key": "...", "value": "..."}, or has "value_base64" for bytes.

    Entries go out in mails of up to 1,000, each of which is stored as a whole. If the import is interrupted, run it
    again: writing an entry twice does no harm, and --skip leaves out what is known to be stored.

    \b
    Examples:
      pmap import accounts.csv
      generate | pmap import - --format jsonl
    """
    chosen = _format(file, form)
    size = None if file == STDOUT else os.path.getsize(file)
    with click.open_file(file, "rb") as source, Connection(**options).map() as entries:
        with _progress("importing", size, unit="bytes") as advance:
            stored = _store(entries, islice(read_entries(source, chosen, advance), skip, None), skip)
        if stored:
            report_write(entries.client, f"imported {stored:,} entries, the last", wait_stable, stable_timeout)
        else:
            click.echo("there was nothing to import")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_format_option
@click.option("--prefix", help="Only keys that start with this.")
@connection_options
def export(file: str, form: str | None, prefix: str | None, **options: Any) -> None:
    """Write all entries into FILE, in the order of their keys; - is standard output.

    FILE appears once it is complete. What others change while the export runs may or may not be in it.

    \b
    Examples:
      pmap export backup.jsonl
      pmap export - --format csv --prefix user/ | less
    """
    from client.transfer import Entry

    chosen = _format(file, form)
    with Connection(**options).map() as entries:
        total = len(entries) if prefix is None else None
        with _progress("exporting", total, unit="entries") as advance, output_file(file) as target:
            text = io.TextIOWrapper(target, "utf-8", newline="", write_through=True)
            count = 0
            for _ in write_entries(text, chosen, (Entry(*pair) for pair in entries.scan(prefix=prefix))):
                count += 1
                advance(1)
            text.detach()
    click.echo(f"exported {count:,} entries", err=True)


def _format(file: str, form: str | None) -> Format:
    if form is not None:
        return Format(form)
    return Format.JSON_LINES if file == STDOUT else format_of(file)


def _store(entries: KeyValueClient, source: Iterator[Entry], skipped: int) -> int:
    """Write all of it and return how many there were. An error gets a note about how far it came."""
    from client.kv_operations import mails
    from wire.kv import Put

    stored = 0

    def how_far() -> str:
        if not stored:
            return "Nothing of it was stored."
        return (
            f"{stored:,} entries were stored before that. Once the cause is gone, run the import again"
            f" with --skip {skipped + stored}."
        )

    try:
        for mail in mails(Put(entry.key, entry.value) for entry in source):
            entries.execute(mail)
            stored += len(mail)
    except PmapError as error:
        error.add_note(how_far())
        raise
    except KeyboardInterrupt:
        click.echo(how_far(), err=True)
        raise
    return stored


@contextmanager
def _progress(doing: str, total: int | None, *, unit: str) -> Iterator[Advance]:
    """A bar on standard error, if that is a terminal. ``total``: None if it is not known."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(doing, total=total)
        yield lambda count: bars.advance(task, count)
