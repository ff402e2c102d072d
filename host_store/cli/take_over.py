"""``pmap take-over``: have an enclave take the store of another one over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from host_store.cli.serve import KEY_VALUE_ENCLAVE
from host_store.cli.tee_options import endorsements_option, read_endorsements, tee_options, where


@click.command("take-over")
@click.argument("enclave", metavar="[MODULE:CLASS]", default=KEY_VALUE_ENCLAVE)
@click.option(
    "--from", "url", required=True, metavar="URL", help="Where the old host listens: its --hand-over address."
)
@click.option(
    "--store",
    required=True,
    metavar="URL",
    help="A new folder, to be filled with the old store; or the old store itself, or a copy of it.",
)
@tee_options
@endorsements_option
def take_over(enclave: str, url: str, store: str, endorsements: Path | None, **tee_settings: Any) -> None:
    """Take the store of a running enclave over: for new code, or for a new machine.

    The two enclaves check each other's evidence. Who may have the store stands in the old enclave's class
    (successors), from whom one is taken in the new one's (predecessors). The store's secrets pass encrypted from the
    one to the other; the old one then serves no more. Afterwards serve the new store; clients go on with the state
    that they have.

    \b
    Examples, on the old machine and on the new one:
      pmap serve bank:Bank --store /srv/bank --tee snp --hand-over 10.0.0.1:9001
      pmap take-over bank:Bank --from http://10.0.0.1:9001 --store /srv/bank --tee snp
      pmap serve bank:Bank --store /srv/bank --tee snp
    """
    from host_store.enclave_process import EnclaveProcess, enclave_command
    from host_store.stores.url import StoreUrl
    from host_store.take_over import take_over as take

    where_to = StoreUrl.parse(store)
    chosen = where(**tee_settings)
    command = enclave_command(enclave, chosen.tee) if chosen.command is None else chosen.command

    def run() -> EnclaveProcess:
        return EnclaveProcess(command, lambda: None, import_from=None if chosen.command else Path.cwd())

    with click.progressbar(length=1, label="the store") as bar:

        def progress(more: int, length: int) -> None:
            bar.length = length
            bar.update(more)

        taken = take(url, run, where_to, read_endorsements(endorsements), progress)
    click.echo(f"store {taken.store_id.hex()} was taken over at commit {taken.n}, into {where_to.shown}")
    click.echo("now serve it, as before, with 'pmap serve'")
