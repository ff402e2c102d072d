"""``pmap serve``: run an enclave on a store, and answer its clients over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from host_store.host import EnclaveHost
    from host_store.stores.url import StoreUrl

KEY_VALUE_ENCLAVE: Final = "pmap.kv:KeyValueEnclave"


@click.command()
@click.argument("enclave", metavar="[MODULE:CLASS]", default=KEY_VALUE_ENCLAVE)
@click.option(
    "--store",
    required=True,
    metavar="URL",
    help="Where records are kept; made if it is not there. PATH or lmdb:PATH: a folder on this machine. Or"
    " postgresql://HOST/DATABASE, etcd://HOST:PORT,.../PREFIX, s3://BUCKET/PREFIX.",
)
@click.option(
    "--standby",
    is_flag=True,
    help="While another host serves the store, wait; take over when it has left, or its lease has lapsed.",
)
@click.option(
    "--simulated-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run in the simulated TEE, with the sealing key in this file; made if store and file are new. INSECURE: for"
    " development.",
)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    help="Where to take requests; port 0 takes any free one.",
)
@click.option("--in-process", is_flag=True, help="Run the enclave in the host's own process. For development.")
def serve(enclave: str, store: str, standby: bool, simulated_key: Path | None, listen: str, in_process: bool) -> None:
    """Run an enclave on a store, and answer its clients over HTTP.

    MODULE:CLASS names the enclave, a subclass of pmap.Enclave, as it is imported from the current folder or an
    installed package. Without it, the ready-made key-value enclave runs, which 'pmap put' and its like talk to.

    Ctrl-C (or SIGTERM) stops the server in order. Any other end is fine as well: what was answered is in the store.

    \b
    Examples:
      pmap serve --store ./store --simulated-key ./dev.key
      pmap serve bank:Bank --store lmdb:/srv/bank --simulated-key ./dev.key --listen 0.0.0.0:9000
      pmap serve --store postgresql://db.internal/pmap --simulated-key ./dev.key --standby
    """
    from host_store.host import EnclaveHost
    from host_store.server import WebServer
    from host_store.stores.url import StoreUrl, open_store

    url = StoreUrl.parse(store)
    if simulated_key is None:
        raise click.UsageError(
            "This version knows no hardware TEE: to run in the simulated one, which protects nothing and is for"
            " development, name a file for its key with --simulated-key FILE."
        )
    with ExitStack() as stack:
        opened = open_store(url, standby=standby, on_wait=_say_who_serves)
        stack.callback(opened.close)
        host = stack.enter_context(
            EnclaveHost.start(
                enclave, opened, in_process=in_process, simulated_key=simulated_key, import_from=Path.cwd()
            )
        )
        server = WebServer(host, listen)
        server.run(lambda at: _announce(host, at, url, simulated_key, in_process))
        click.echo("stopping: what is on its way is finished first")


def _say_who_serves(other: str) -> None:
    click.echo(f"waiting: the host {other} has served this store; if it is gone, its lease lapses in a moment")


def _announce(host: EnclaveHost, at: str, url: StoreUrl, key: Path, in_process: bool) -> None:
    from wire.attestation import Attestation

    status = host.status()
    attestation = Attestation.decode(host.attestation())
    where = "in the host's own process" if in_process else "in a process of its own"
    click.echo(f"listening on {at}")
    click.echo(f"enclave: {status.enclave}, {where}")
    click.echo(f"store:   {attestation.store_id.hex()} in {url.shown}, commit {status.n}")
    click.secho(
        f"TEE:     SIMULATED, NOT PROTECTED BY ANY HARDWARE: whoever reads {key} reads the store. For development only;"
        " clients refuse it unless their constraint says SEC:INSECURE.",
        fg="yellow",
    )
    click.echo("stop with Ctrl-C")
