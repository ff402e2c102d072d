"""Stores to measure on: scratch folders, and stores of any size as an enclave leaves them.

Putting a million entries one call at a time takes longer than all that is measured on them, so :func:`write_store`
takes a shorter way into the same state: the entries are put into the map at once, then written by ordinary commits.
The records are what the commit log makes of such commits, and :func:`host_store.open_map` reads them as any others.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.enclaves import BigKeyValueEnclave
from benchmarks.workload import ENTRY_BYTES, names, values
from host_store import EmbeddedMap, open_map
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.store import OutboxItem
from pmap.entries import MAP
from pmap.launch import Launcher
from pmap.order import KeyOrder
from pmap.tee.simulated import SimulatedTee
from wire.boundary import Delivery

MAP_KEY: Final = bytes(range(32))
"""The sealing key of embedded maps."""
LOAD_PUTS: Final = 10_000
"""Puts in one commit while loading."""
MEMORY_FOLDER: Final = Path("/dev/shm")
_PRODUCT: Final = 1


@contextmanager
def scratch(*, in_memory: bool = False) -> Iterator[Path]:
    """A folder that is removed at the end: on the disk, or in memory where bytes are counted and not seconds."""
    where = MEMORY_FOLDER if in_memory and MEMORY_FOLDER.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="pmap-bench-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def entries_in(live_mib: float) -> int:
    """How many entries make so many live MiB."""
    return int(live_mib * (1 << 20) / ENTRY_BYTES)


def live_mib(entries: int) -> float:
    """Keys and values of so many entries, in MiB."""
    return entries * ENTRY_BYTES / (1 << 20)


def key_file(folder: Path) -> Path:
    """Where :class:`host_store.host.EnclaveHost` looks for the simulated TEE's key of the store in ``folder``."""
    return folder.with_name(folder.name + ".key")


def sealing_key(folder: Path) -> bytes:
    """What :func:`host_store.open_map` opens an enclave's store with."""
    return SimulatedTee(key_file(folder).read_bytes(), bytes(32)).sealing_key()


def open_store(folder: Path) -> EmbeddedMap:
    """An enclave's store as an embedded map."""
    return open_map(folder, sealing_key(folder), max_size=BigKeyValueEnclave.max_persistent_map_size)


class Written:
    """An enclave's core on a durable store, in this process, without a host around it."""

    def __init__(self, folder: Path) -> None:
        """A new store in ``folder``, which does not exist yet."""
        self.folder = folder
        self.core, keyring, genesis = Launcher(BigKeyValueEnclave, key_file(folder)).launch(None, ())
        assert keyring is not None and genesis is not None and genesis.commit is not None
        self.keyring, self.genesis = keyring, genesis
        self.kept: list[Delivery] | None = None
        """Set it to a list, and every delivery is added to it."""
        self.store = LmdbStore.open(folder)
        self.store.create(keyring, genesis.commit.record, genesis.commit.leaf)

    def keep(self, delivery: Delivery) -> None:
        """What a host does with a delivery before its answers leave."""
        keep(self.store, delivery)
        if self.kept is not None:
            self.kept.append(delivery)

    def load(self, count: int, *, puts: int = LOAD_PUTS) -> list[str]:
        """Write ``count`` entries, ``puts`` a commit; returns their keys. For a map that is empty."""
        keys, value = names(count), values()
        entries = {MAP + key.encode(): value() for key in keys}
        runtime, counted = self.core._runtime, self.core.map._counted
        runtime.live.update(entries)
        runtime.entries.order = KeyOrder(sorted(runtime.live))
        counted.length, counted.size = count, count * (ENTRY_BYTES + counted._overhead + len(MAP))
        written = list(entries.items())
        for start in range(0, count, puts):
            runtime.entries.changes.update(written[start : start + puts])
            self.commit()
        return keys

    def commit(self) -> None:
        """A commit of whatever was written."""
        self.core._runtime.turn.commits = True
        self.keep(self.core._runtime.commit())

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def keep(store: LmdbStore, delivery: Delivery) -> None:
    """Make a delivery durable, in one transaction."""
    commit = delivery.commit
    if commit is not None:
        boxed = [OutboxItem(delivery.number, slot, address, message) for slot, address, message in delivery.outbox]
        store.append(commit.n, commit.record, commit.leaf, trim=commit.tail, outbox=boxed, drops=delivery.drops)


def write_store(folder: Path, count: int, *, small_commits: bool = False) -> None:
    """An enclave's store with ``count`` entries.

    ``small_commits``: as many one-put commits follow as it takes for every record of the window to be one of them:
    how a store looks after long use, and the slowest one to start from.
    """
    written = Written(folder)
    keys = written.load(count)
    if small_commits:
        overwrite_cycle(written, keys)
    written.close()


def overwrite_cycle(written: Written, keys: list[str]) -> None:
    """One-put commits until the window holds nothing else."""
    log, map_ = written.core._runtime.log, written.core.map
    value, source, loaded = values(), random.Random(7), log.n
    while log.tail <= loaded:
        with log.entries.transaction():
            map_[source.choice(keys)] = value()
        written.commit()
