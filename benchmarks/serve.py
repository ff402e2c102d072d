"""The real thing: a host with its enclave process, an LMDB store on the disk and the web server in front.

``python -m benchmarks.serve FOLDER with|without [STORE]`` fills the enclave's map by mails, prints the server's address
and serves until its standard input ends. ``without``: the enclave process is :mod:`benchmarks.unfresh`. ``STORE``: the
URL of another store.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Final

from benchmarks.child import tell
from benchmarks.mail_client import MailClient
from benchmarks.mail_core import MAP_ENTRIES
from benchmarks.restart import ENCLAVE, ROOT
from benchmarks.stores import key_file
from benchmarks.workload import names, values
from host_store.enclave_process import EnclaveProcess
from host_store.host import EnclaveHost
from host_store.intake import Intake
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.server import WebServer
from host_store.supervisor import Supervisor
from wire.kv import Put, encode_operations

_PUTS: Final = 1_000  # in one mail while loading


def start_host(folder: Path, *, freshness: bool, store: str | None = None) -> EnclaveHost:
    """A host on a new store in ``folder``, or at the URL ``store``."""
    if store is not None:
        return EnclaveHost.start(ENCLAVE, store, import_from=ROOT, simulated_key=key_file(folder))
    if freshness:
        return EnclaveHost.start(ENCLAVE, folder, import_from=ROOT)
    # A host has no way to run another program than the enclave's; so it is put together here from its parts.
    command = [sys.executable, "-m", "benchmarks.unfresh", "--simulated-key", str(key_file(folder)), "--", ENCLAVE]
    opened, intake = LmdbStore.open(folder), Intake()
    supervisor = Supervisor(lambda on_end: EnclaveProcess(command, on_end, import_from=ROOT), opened, intake)
    supervisor.start()
    return EnclaveHost("without freshness", supervisor, intake, opened, True)


def fill(host: EnclaveHost) -> None:
    """Put the entries that mails will overwrite."""
    client, value, keys = MailClient(host.attestation()), values(), names(MAP_ENTRIES)
    client.welcome(host.deliver(client.hello()).result())
    for start in range(0, len(keys), _PUTS):
        puts = [Put(key, value()) for key in keys[start : start + _PUTS]]
        client.accept(host.deliver(client.seal(encode_operations(puts))).result())


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    folder, freshness, *store = arguments
    with start_host(Path(folder), freshness=freshness == "with", store=store[0] if store else None) as host:
        fill(host)
        server = WebServer(host, "127.0.0.1:0")

        def stop_with_our_parent() -> None:
            sys.stdin.read()
            server.stop()

        threading.Thread(target=stop_with_our_parent, daemon=True).start()
        server.run(tell)


if __name__ == "__main__":
    main(sys.argv[1:])
