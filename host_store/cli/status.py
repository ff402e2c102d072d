"""``pmap status``: where a server or a store stands, in a table."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from wire.errors import HostUnavailable, InvalidInput, Malformed

if TYPE_CHECKING:
    from host_store.stores.url import StoreUrl

_TIMEOUT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 64 * 1024
_LABELS: Final = {
    "epoch": "epoch (beginning)",
    "persistent": "keeps state",
    "n": "newest commit",
    "waiting": "mails waiting",
    "starts": "starts of the enclave",
}
"""How a health report's fields are called for people; the others by their names."""


@click.command()
@click.option(
    "--url",
    metavar="URL",
    envvar="PMAP_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    show_envvar=True,
    help="The server to ask.",
)
@click.option(
    "--store", metavar="URL", help="Look into a store instead (as 'pmap serve --store'); a folder must not be in use."
)
def status(url: str, store: str | None) -> None:
    """Show where a server, or a store on disk, stands.

    All of this is the host's word: only a client's evidence tells whether a store is the newest.
    Exits with 1 if the server does not run its enclave.

    \b
    Examples:
      pmap status
      pmap status --store ./store
    """
    from host_store.stores.url import StoreUrl

    if store is not None:
        where = StoreUrl.parse(store)
        _print_table(f"store {where.shown}", _store_rows(where))
        return
    rows = ask_health(url)
    _print_table(f"server {url}", rows)
    if rows.get("status") != "running":
        raise click.exceptions.Exit(1)


def ask_health(url: str) -> dict[str, Any]:
    """What a server's ``/healthz`` says. Raises InvalidInput, HostUnavailable and Malformed."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError
        connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT_SECONDS)
    except ValueError as error:
        raise InvalidInput(f"a server's address is http://HOST:PORT, not {url!r}") from error
    try:
        connection.request("GET", parts.path.rstrip("/") + "/healthz")
        untrusted = connection.getresponse().read(_MAX_BYTES)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise HostUnavailable(
            f"no server answers at {url} ({reason}): start one with 'pmap serve', or name another with --url"
        ) from error
    finally:
        connection.close()
    try:
        health = json.loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"what answers at {url} is no pmap server") from error
    if not isinstance(health, dict) or "status" not in health:
        raise Malformed(f"what answers at {url} is no pmap server")
    return health


def _store_rows(url: StoreUrl) -> dict[str, Any]:
    from host_store.stores.url import open_store

    with open_store(url, create=False, read_only=True) as store:
        head, stats = store.head(), store.stats()
    return {
        "newest commit": head.n,
        "oldest record kept": head.first if stats.records else "none",
        "records kept": stats.records,
        "waiting replies": stats.outbox_items,
        "bytes in use": stats.used_bytes,
        "bytes on disk": stats.file_bytes,
    }


def _print_table(title: str, rows: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=False)
    for name, value in rows.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        # As Text: a server's words are no markup.
        table.add_row(Text(_LABELS.get(name, name)), Text(shown))
    Console().print(table)
