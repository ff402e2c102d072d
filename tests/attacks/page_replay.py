"""Every 4 KiB page of a store's files, one at a time, replaced by its older version: what does the enclave do?

``python -m attacks.page_replay FOLDER SKIP`` prints one word for each page that differs, from number SKIP on, and then
``end``. A program of its own, because LMDB may crash on such a file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from attack_steps import fill_window, put_state, save_state
from attacked_enclaves import Ledger

from client import EnclaveClient
from host_store.adversary import MaliciousHost, Snapshot
from wire.errors import PmapError

PAGE = 4096  # bytes


def main(folder: Path, skip: int) -> None:
    with MaliciousHost(Ledger, folder=folder) as host:
        alice = host.client("alice")
        fill_window(host, alice)
        alice.send(b"put x old")
        old = settled(host, alice)
        alice.send(b"put x new")
        new, known = settled(host, alice), save_state(host, "alice")
        alice.close()
        for forged in list(forgeries(old, new))[skip:]:
            print(outcome(host, forged, known), flush=True)
            host.restore(new)
    print("end", flush=True)


def settled(host: MaliciousHost, alice: EnclaveClient) -> Snapshot:
    """The store with everything so far in the data file, and three commits more in the journal."""
    host.restart()
    for _ in range(4):
        alice.heartbeat()
    return host.snapshot()


def forgeries(old: Snapshot, new: Snapshot) -> Iterator[Snapshot]:
    """The new store with one page of the data file, or of the journal, as it was."""
    assert old.journal is not None and new.journal is not None
    for at in range(0, min(len(old.data), len(new.data)), PAGE):
        if differ(old.data, new.data, at):
            yield Snapshot(replaced(new.data, old.data, at), new.n, new.journal)
    for at in range(0, len(new.journal), PAGE):
        if differ(old.journal, new.journal, at):
            yield Snapshot(new.data, new.n, replaced(new.journal, old.journal, at))


def differ(one: bytes, other: bytes, at: int) -> bool:
    return one[at : at + PAGE] != other[at : at + PAGE]


def replaced(data: bytes, old: bytes, at: int) -> bytes:
    return data[:at] + old[at : at + PAGE] + data[at + PAGE :]


def outcome(host: MaliciousHost, forged: Snapshot, known: dict[str, bytes]) -> str:
    """``right``, the class of an error, or ``WRONG``."""
    try:
        host.restore(forged)
        put_state(host, "alice", known)
        with host.client("alice") as alice:
            return "right" if alice.send(b"get x").payload == b"new" else "WRONG"
    except PmapError as error:
        return type(error).__name__


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
