"""``pmap serve``: run an enclave on a store, and answer its clients over HTTP."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from host_store.cli.tee_options import Where, endorsements_option, read_endorsements, tee_options, where
from wire.errors import StoreHandedOver

if TYPE_CHECKING:
    from host_store.hand_over import HandOverServer
    from host_store.host import EnclaveHost
    from host_store.stores.url import StoreUrl

KEY_VALUE_ENCLAVE: Final = "pmap.kv:KeyValueEnclave"
SUCCESSOR_SECONDS: Final = 3600.0
"""How long a successor may take to fetch the store and to start on it."""


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
    help="While another host serves the store, wait, with the enclave started; take over when it has left, or its lease"
    " has lapsed.",
)
@tee_options
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    help="Where to take requests; port 0 takes any free one.",
)
@click.option("--in-process", is_flag=True, help="Run the enclave in the host's own process. For development.")
@click.option("--rotate-key", is_flag=True, help="Encrypt a stored state from now on under a new key.")
@click.option(
    "--hand-over",
    "hand_over_at",
    metavar="ADDRESS:PORT",
    help="Also wait there for a successor ('pmap take-over') that the enclave accepts; once it has the store, end.",
)
@endorsements_option
def serve(
    enclave: str,
    store: str,
    standby: bool,
    listen: str,
    in_process: bool,
    rotate_key: bool,
    hand_over_at: str | None,
    endorsements: Path | None,
    **tee_settings: Any,
) -> None:
    """Run an enclave on a store, and answer its clients over HTTP.

    MODULE:CLASS names the enclave, a subclass of pmap.Enclave, as it is imported from the current folder or an
    installed package. Without it, the ready-made key-value enclave runs, which 'pmap put' and its like talk to.

    Ctrl-C (or SIGTERM) stops the server in order. Any other end is fine as well: what was answered is in the store.

    \b
    Examples:
      pmap serve --store ./store --simulated-key ./dev.key
      pmap serve bank:Bank --store lmdb:/srv/bank --simulated-key ./dev.key --listen 0.0.0.0:9000
      pmap serve --store postgresql://db.internal/pmap --simulated-key ./dev.key --standby
      pmap serve bank:Bank --store /srv/bank --tee snp
      pmap serve --store /srv/bank --enclave-command 'gramine-sgx build-sgx/pmap'
      pmap serve bank:Bank --store /srv/bank --tee snp --hand-over 10.0.0.1:9001
    """
    from host_store.host import EnclaveHost
    from host_store.server import WebServer, bind
    from host_store.standby_server import StandbyServer
    from host_store.stores.url import StoreUrl

    url = StoreUrl.parse(store)
    chosen = where(**tee_settings)
    said = read_endorsements(endorsements)
    if endorsements is not None and hand_over_at is None:
        raise click.UsageError("--endorsements are for the other side of a --hand-over")
    with ExitStack() as stack:
        listener = stack.enter_context(bind(listen))
        not_yet = StandbyServer(listener)
        stack.callback(not_yet.stop)

        def on_wait(other: str) -> None:
            click.echo(
                f"waiting: the host {other} serves this store. When it has left, or has given no sign of life for"
                f" as long as its lease says, this one takes over; until then {not_yet.url} answers 503"
            )
            not_yet.start()

        host = EnclaveHost.start(
            enclave,
            store,
            in_process=in_process,
            tee=chosen.tee,
            enclave_command=chosen.command,
            rotate=rotate_key,
            import_from=Path.cwd(),
            standby=standby,
            on_wait=on_wait,
        )
        stack.callback(host.close)
        desk = None
        if hand_over_at is not None:
            from host_store.hand_over import HandOverServer

            desk = HandOverServer(host, url, hand_over_at, said)
            stack.callback(desk.close)
            desk.start()
        not_yet.stop()
        server = WebServer(host, listener)
        try:
            server.run(lambda at: _announce(host, at, url, chosen, in_process, desk))
            click.echo("stopping: what is on its way is finished first")
        except StoreHandedOver:
            if desk is None:
                raise
            keyring = host.keyring()
            host.close()
            click.echo("a successor has the store's secrets: nothing is served here any more, until it is through")
            desk.finish(keyring, SUCCESSOR_SECONDS)
            click.echo("handed over: the store is the successor's")


def _announce(
    host: EnclaveHost, at: str, url: StoreUrl, chosen: Where, in_process: bool, desk: HandOverServer | None
) -> None:
    from wire.attestation import Attestation
    from wire.simulated import SIMULATED

    status = host.status()
    attestation = Attestation.decode(host.attestation())
    process = "in the host's own process" if in_process else "in a process of its own"
    enclave = status.enclave if chosen.command is None else shlex.join(chosen.command)
    click.echo(f"listening on {at}")
    click.echo(f"enclave: {enclave}, {process}")
    click.echo(f"store:   {attestation.store_id.hex()} in {url.shown}, commit {status.n}")
    if attestation.tee == SIMULATED:
        key = "its key" if chosen.tee is None else chosen.tee.simulated_key
        click.secho(
            f"TEE:     SIMULATED, NOT PROTECTED BY ANY HARDWARE: whoever reads {key} reads the store. For development"
            " only; clients refuse it unless their constraint says SEC:INSECURE.",
            fg="yellow",
        )
    else:
        click.echo(f"TEE:     {attestation.tee}. Whether it is genuine, and the right enclave, its clients check.")
    if desk is not None:
        click.echo(f"hand-over: a successor finds this store at {desk.url}")
    click.echo("stop with Ctrl-C")
