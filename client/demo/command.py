"""``pmap demo``."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@click.command()
@click.option("--entries", type=click.IntRange(min=100), metavar="N", help="Load only N entries; by default all.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Do everything in this new or empty folder and leave it: stores, client states, the host's log.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="The server's; by default any free."
)
@click.option(
    "--store", metavar="URL", help="On a shared engine, as 'pmap serve --store' names it; there must be no store yet."
)
def demo(entries: int | None, keep: Path | None, port: int, store: str | None) -> None:
    """Show the whole system at work, with real processes on this machine.

    Two clients load the names of all Unicode characters through a server; its process is killed on the way, and
    nothing is lost. Then the host restores an old copy of its store, and is caught at the next mail.

    Every claim is checked: the exit code is 0 only if all of them hold.

    \b
    Examples:
      pmap demo
      pmap demo --entries 2000 --keep ./demo
      pmap demo --store postgresql://localhost/pmap?store=demo
    """
    with _folder(keep) as folder, _ending_on_sigterm():
        if not play(folder, entries, port, store):
            sys.exit(1)


def play(folder: Path, entries: int | None, port: int, store: str | None = None) -> bool:
    """Run the demo in a folder and show it on standard output; whether everything came out as expected."""
    from rich.console import Console

    from client.demo.expectations import DemoFailed
    from client.demo.names import character_names
    from client.demo.scenario import Scenario
    from client.demo.server import HostProcess
    from client.demo.show import Show
    from wire.errors import PmapError

    show = Show(Console(highlight=False))
    show.title("pmap: an encrypted store that its host cannot take back in time unnoticed")
    try:
        with HostProcess(folder, port, url=store) as host:
            host.refuse_old_store()
            Scenario(show, host, folder, character_names(entries)).run()
    except (DemoFailed, PmapError) as error:
        show.table()
        kind = "" if isinstance(error, DemoFailed) else f"{type(error).__name__}: "
        click.secho(f"the demo did not come out as expected: {kind}{error}", fg="red", err=True)
        return False
    show.table()
    return True


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder to work in; a temporary one is removed at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="pmap-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty: name a new folder")
    yield keep.absolute()
    click.echo(f"everything is left in {keep}: see the store with 'pmap status --store {keep / 'store'}'")


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as an exception does, so that it stops its host."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
