"""``pmap backup`` and ``pmap restore``: a store on a shared engine as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wire.errors import InvalidInput

if TYPE_CHECKING:
    from host_store.stores.engine import Engine, Patience

_STORE = click.option("--store", required=True, metavar="URL", help="The store, as 'pmap serve' names it.")
_NEW_FILE = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
_FILE = click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@_STORE
@_NEW_FILE
def backup(store: str, file: Path) -> None:
    """Save a store on a shared engine to a new file. No host may be serving it.

    It stays encrypted. A folder of LMDB's needs no such command: copy it.
    """
    from host_store.stores.backup import save

    engine, patience = _vacant(store)
    try:
        count = save(engine, patience, file)
    finally:
        engine.close()
    click.echo(f"saved {count:,} objects to {file}")


@click.command()
@_STORE
@_FILE
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(store: str, file: Path, yes: bool) -> None:
    """Put a saved store in the place of whatever is there. No host may be serving it.

    Everything that was written since is gone, and each client that has seen it will say so: a restored store is
    a rolled-back store.
    """
    from host_store.stores.backup import restore as put_back

    engine, patience = _vacant(store)
    try:
        if not yes:
            click.confirm(f"Delete what is in {engine.where}, and put {file} in its place?", abort=True)
        count = put_back(engine, patience, file)
    finally:
        engine.close()
    click.echo(f"restored {count:,} objects from {file}")


def _vacant(store: str) -> tuple[Engine, Patience]:
    from host_store.stores.engine import Patience
    from host_store.stores.tenure import wait_for_vacancy
    from host_store.stores.url import StoreUrl, connect

    url = StoreUrl.parse(store)
    if not url.shared:
        raise InvalidInput("a store in a folder is saved by copying the folder while no server uses it")
    engine, options = connect(url)
    patience = Patience(options.timeout)
    try:
        wait_for_vacancy(engine, patience, standby=False)
    except BaseException:
        engine.close()
        raise
    return engine, patience
