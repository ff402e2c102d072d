"""A host that a test kills. Run with ``tests`` as the current folder.

``python -m crash.served STORE PORT [STEP]``: serve :class:`attacked_enclaves.Ledger` from the store, print the address,
and, with a STEP, stand still there in every commit from the second one on, after printing ``frozen``.

STORE is a folder, or ``URL#FILE`` with the key's file.

``python -m crash.served --zygote STORE PORT``: the same, forked anew for each line on standard input: ``thread`` (the
enclave in the host's own process) or ``process``. Starting a Python takes longer than all the rest.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacked_enclaves import Ledger

import host_store.lmdb_store as lmdb_store
import host_store.lmdb_tables as lmdb_tables
import host_store.writer as writer
from host_store.host import EnclaveHost
from host_store.server import WebServer

STEPS = (
    "before the transaction",
    "claim_number",
    "delete_records_below",
    "outbox",
    "put_record",
    "store_completed_nodes",
    "before the commit",
    "after the commit",
    "before the answers",
)


def freeze() -> None:
    """Say so and stand still."""
    os.write(1, b"frozen\n")
    threading.Event().wait()


def _freezing(function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    calls = 0

    def frozen(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > FREE and not after:
            freeze()
        result = function(*arguments, **named)
        if calls > FREE and after:
            freeze()
        return result

    return frozen


FREE = 3
"""So many commits pass before: the hello and the first mails."""


def install(step: str) -> None:
    """Let every commit stand still at this step."""
    store: Any = lmdb_store.LmdbStore
    match step:
        case "before the transaction":
            store.append = _freezing(store.append)
        case "after the commit":
            store.append = _freezing(store.append, after=True)
        case "outbox":
            tables: Any = lmdb_tables.OutboxChange
            tables.apply = _freezing(tables.apply)
        case "before the commit":
            lmdb_store.store_completed_nodes = _freezing(lmdb_store.store_completed_nodes, after=True)  # type: ignore[assignment]
        case "before the answers":
            keeps: Any = writer.Writer
            keeps._keep = _freezing(keeps._keep, after=True)
        case _:
            setattr(lmdb_store, step, _freezing(getattr(lmdb_store, step)))


def serve(store: str, port: str, *, process: bool = False) -> None:
    """Until killed."""
    store, _, named = store.partition("#")
    key = Path(named or store).with_suffix(".key")
    with EnclaveHost.start(Ledger, store, in_process=not process, simulated_key=key) as host:
        WebServer(host, f"127.0.0.1:{port}").run(_say)


def zygote(store: str, port: str) -> None:
    """Fork a server for each line."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            serve(store, port, process=line.strip() == "process")
            os._exit(0)
        _say(str(child))
        os.waitpid(child, 0)
        _say("ended")


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    if sys.argv[1] == "--zygote":
        zygote(*sys.argv[2:])
    else:
        if sys.argv[3:]:
            install(sys.argv[3])
        serve(*sys.argv[1:3])
