"""``pmap serve``: run an enclave on a store, and answer its clients over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wire.errors import InvalidInput

if TYPE_CHECKING:
    from host_store.host import EnclaveHost

KEY_VALUE_ENCLAVE: Final = "pmap.kv:KeyValueEnclave"
_KIND: Final = re.compile(r"([a-z][a-z0-9+]*):(.*)", re.DOTALL)


@click.command()
@click.argument("enclave", metavar="[MODULE:CLASS]", default=KEY_VALUE_ENCLAVE)
@click.option("--store", required=True, metavar="[lmdb:]PATH", help="The store's folder; made if it is not there.")
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
def serve(enclave: str, store: str, simulated_key: Path | None, listen: str, in_process: bool) -> None:
    """Run an enclave on a store, and answer its clients over HTTP.

    MODULE:CLASS names the enclave, a subclass of pmap.Enclave, as it is imported from the current folder or an
    installed package. Without it, the ready-made key-value enclave runs, which 'pmap put' and its like talk to.

    Ctrl-C (or SIGTERM) stops the server in order. Any other end is fine as well: what was answered is in the store.

    \b
    Examples:
      pmap serve --store ./store --simulated-key ./dev.key
      pmap serve bank:Bank --store lmdb:/srv/bank --simulated-key ./dev.key --listen 0.0.0.0:9000
    """
    from host_store.host import EnclaveHost
    from host_store.server import WebServer

    folder = store_folder(store)
    if simulated_key is None:
        raise click.UsageError(
            "This version knows no hardware TEE: to run in the simulated one, which protects nothing and is for"
            " development, name a file for its key with --simulated-key FILE."
        )
    with EnclaveHost.start(
        enclave, folder, in_process=in_process, simulated_key=simulated_key, import_from=Path.cwd()
    ) as host:
        server = WebServer(host, listen)
        server.run(lambda url: _announce(host, url, folder, simulated_key, in_process))
        click.echo("stopping: what is on its way is finished first")


def store_folder(store: str) -> Path:
    """The folder that ``--store`` names. Raises :class:`InvalidInput` for another kind of store than LMDB's."""
    match = _KIND.fullmatch(store)
    if match is not None and match[1] != "lmdb":
        raise InvalidInput(
            f"there is no kind of store '{match[1]}': use lmdb:PATH or PATH (lmdb:{store} if the colon is in the path)"
        )
    path = store if match is None else match[2]
    if not path:
        raise InvalidInput("--store needs the path of a folder")
    return Path(path)


def _announce(host: EnclaveHost, url: str, folder: Path, key: Path, in_process: bool) -> None:
    from wire.attestation import Attestation

    status = host.status()
    attestation = Attestation.decode(host.attestation())
    where = "in the host's own process" if in_process else "in a process of its own"
    click.echo(f"listening on {url}")
    click.echo(f"enclave: {status.enclave}, {where}")
    click.echo(f"store:   {attestation.store_id.hex()} in {folder.absolute()}, commit {status.n}")
    click.secho(
        f"TEE:     SIMULATED, NOT PROTECTED BY ANY HARDWARE: whoever reads {key} reads the store. For development only;"
        " clients refuse it unless their constraint says SEC:INSECURE.",
        fg="yellow",
    )
    click.echo("stop with Ctrl-C")
