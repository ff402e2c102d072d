"""A host that a test kills. Run with ``tests`` as the current folder.

``python -m crash.served STORE PORT [STEP]``: serve :class:`attacked_enclaves.Ledger` from the store, print the address,
and, with a STEP, stand still there in a later commit, after printing ``frozen``. For steps of LMDB's transactions, and
with "small journal" as the step, the journal is so small that a group goes to LMDB every other commit.

STORE is a folder, or ``URL#FILE`` with the key's file.

``python -m crash.served --zygote PORT``: the same, forked anew for each line on standard input, ``thread STORE`` (the
enclave in the host's own process) or ``process STORE``; it begins at the next line. Starting a Python takes longer than
all the rest.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attacked_enclaves import Ledger

import host_store.lmdb.commits as lmdb_commits
import host_store.lmdb.history as lmdb_history
import host_store.lmdb.journal as journal
import host_store.lmdb.lmdb_store as lmdb_store
import host_store.writer as writer
from host_store.host import EnclaveHost
from host_store.server import WebServer

JOURNAL_STEPS = (
    "before the append",
    "before the journal is written",
    "after the journal is written",
    "after the append",
    "before the answers",
)
GROUP_STEPS = (
    "write_group",
    "replace_records",
    "change_outbox",
    "append_leaves",
    "store_completed_nodes",
    "before LMDB's commit",
    "before the journal begins again",
)
SMALL_JOURNAL = "small journal"
STEPS = (*JOURNAL_STEPS, *GROUP_STEPS)


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
    file: Any = journal.Journal
    if step == SMALL_JOURNAL or step in GROUP_STEPS:
        store.open = partial(store.open, journal_bytes=4 * journal.PAGE_BYTES)
    match step:
        case "small journal":
            pass
        case "before the append":
            store.append = _freezing(store.append)
        case "before the journal is written":
            file.write = _freezing(file.write)
        case "after the journal is written":
            file.write = _freezing(file.write, after=True)
        case "after the append":
            store.append = _freezing(store.append, after=True)
        case "before the answers":
            keeps: Any = writer.Writer
            keeps._keep = _freezing(keeps._keep, after=True)
        case "store_completed_nodes":
            tree: Any = lmdb_history.History
            tree.store_completed_nodes = _freezing(tree.store_completed_nodes)
        case "before LMDB's commit":
            lmdb_commits.write_group = _freezing(lmdb_commits.write_group, after=True)  # type: ignore[assignment]
        case "before the journal begins again":
            file.restart = _freezing(file.restart)
        case _:
            setattr(lmdb_commits, step, _freezing(getattr(lmdb_commits, step)))


def serve(store: str, port: str, *, process: bool = False) -> None:
    """Until killed."""
    store, _, named = store.partition("#")
    key = Path(named or store).with_suffix(".key")
    with EnclaveHost.start(Ledger, store, in_process=not process, simulated_key=key) as host:
        WebServer(host, f"127.0.0.1:{port}").run(_say)


def zygote(port: str) -> None:
    """Fork a server for each line. Its journal is small: every life of it moves groups to LMDB as well."""
    install(SMALL_JOURNAL)
    for line in sys.stdin:
        mode, _, store = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            _say(str(os.getpid()))
            os.read(0, 1)  # whoever wants to trace it does so now
            serve(store, port, process=mode == "process")
            os._exit(0)
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
