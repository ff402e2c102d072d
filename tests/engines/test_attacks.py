"""Attacks on what an engine keeps, on all engines wherever they are: its owner may change everything in it.

Numbers are those of ``tests/attacks``, whose own tests run on the engines as well where all are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacked_enclaves import Ledger
from shared_engines import engine

from benchmarks.engine_servers import KINDS
from client import EnclaveClient, InProcessTransport, RollbackDetected
from host_store.host import EnclaveHost
from host_store.stores.backup import restore, save
from host_store.stores.engine import Engine, Patience
from host_store.stores.entry import Kind, decode_entry
from host_store.stores.loading import LOG
from host_store.stores.objects import Objects
from host_store.stores.url import StoreUrl, connect
from wire.errors import CorruptedStore, Malformed

PATIENCE = Patience()


class Owner:
    """Whoever owns the engine, and runs the host."""

    def __init__(self, url: str, folder: Path, reached: Engine) -> None:
        self.url, self.folder, self.engine = url, folder, reached
        self.objects = Objects(reached, PATIENCE)

    @contextmanager
    def host(self) -> Iterator[EnclaveHost]:
        key = self.folder / "tee.key"
        with EnclaveHost.start(Ledger, self.url, in_process=True, simulated_key=key) as host:
            yield host

    @contextmanager
    def client(self, name: str) -> Iterator[EnclaveClient]:
        with self.host() as host:
            transport, state = InProcessTransport(host), self.folder / f"{name}.state"
            with EnclaveClient.connect(transport, constraint="SEC:INSECURE", state=state, retry_delays=()) as client:
                yield client

    def commits(self) -> list[str]:
        """The names of the commits' entries, oldest first."""
        names = list(self.objects.names(LOG))
        found = [(name, decode_entry(self.value(name), name)) for name in names]
        return [name for name, entry in found if entry.kind is Kind.COMMIT]

    def value(self, name: str) -> bytes:
        found = self.objects.get(name)
        assert found is not None
        return found[0]


@pytest.fixture(params=KINDS)
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Owner]:
    url = engine(request.param).url(tmp_path.name)
    reached, _options = connect(StoreUrl.parse(url))
    made = Owner(url, tmp_path, reached)
    with made.client("alice") as alice:
        for number in range(1, 4):
            assert alice.send(b"add x 1").payload == b"%d" % number
    yield made
    reached.close()


def test_row_1_a_store_that_was_put_back_is_refused_before_anything_is_executed(owner: Owner, tmp_path: Path) -> None:
    save(owner.engine, PATIENCE, tmp_path / "yesterday")
    with owner.client("alice") as alice:
        assert alice.send(b"add x 10").payload == b"13"
    restore(owner.engine, PATIENCE, tmp_path / "yesterday")
    with owner.client("alice") as alice, pytest.raises(RollbackDetected):
        alice.send(b"add x 100")
    with owner.client("a newcomer") as newcomer, pytest.raises(RollbackDetected):
        newcomer.send(b"get x")


def test_row_2_the_last_acknowledged_commit_is_taken_back(owner: Owner) -> None:
    with owner.client("alice") as alice:
        assert alice.send(b"add x 10").payload == b"13"
    newest = owner.commits()[-1]
    owner.objects.delete([name for name in owner.objects.names(LOG) if name >= newest])
    with owner.client("alice") as alice, pytest.raises(RollbackDetected):
        alice.send(b"add x 100")


def test_row_17b_and_15_the_old_host_cannot_go_on_beside_the_new_one(owner: Owner) -> None:
    from host_store.stores.log_store import LogStore
    from wire.errors import StoreFenced

    old = LogStore.open(connect(StoreUrl.parse(owner.url))[0], "old")
    new = LogStore.open(connect(StoreUrl.parse(owner.url))[0], "new")
    n = new.head().n + 1
    new.append(n, b"of the new host", bytes(32), trim=0)
    with pytest.raises(StoreFenced, match="the host new has taken over"):
        old.append(n, b"of the old host", bytes(32), trim=0)
    old.close()
    new.close()


def test_rows_35_38_a_record_in_the_place_of_another_is_refused_by_the_enclave(owner: Owner) -> None:
    names = owner.commits()[-2:]
    one, two = (owner.value(name) for name in names)
    first, second = decode_entry(one, "one"), decode_entry(two, "two")
    assert first.record_length == second.record_length, "all small records have one size"
    begin, end = second.record_offset, second.record_offset + second.record_length
    record = one[first.record_offset : first.record_offset + first.record_length]
    owner.objects.put(names[1], two[:begin] + record + two[end:])
    # The window is this one record, so that to the enclave it looks like the newest of a shorter history: the host's
    # own engine says otherwise.
    with pytest.raises((CorruptedStore, Malformed)), owner.host():
        pass


@pytest.mark.parametrize("damage", ["deleted", "exchanged", "cut off", "turned over"])
def test_rows_35_45_46_a_damaged_log_is_not_served(owner: Owner, damage: str) -> None:
    names = owner.commits()
    at = names[-2]
    value = owner.value(at)
    if damage == "deleted":
        owner.objects.delete([at])
    elif damage == "exchanged":
        owner.objects.put(at, owner.value(names[-1]))
        owner.objects.put(names[-1], value)
    elif damage == "cut off":
        owner.objects.put(at, value[:-1])
    else:
        newest = owner.value(names[-1])
        middle = decode_entry(newest, at).record_offset + 200
        owner.objects.put(names[-1], newest[:middle] + bytes([newest[middle] ^ 1]) + newest[middle + 1 :])
    with pytest.raises(CorruptedStore), owner.host():
        pass


def test_a_store_whose_objects_are_all_gone_is_another_store(owner: Owner) -> None:
    from client import StoreReplaced

    for prefix in ("format", "log/", "index/", "tile/"):
        owner.objects.delete(list(owner.objects.names(prefix)) or [prefix])
    owner.objects.delete(["format"])
    with owner.host() as host, pytest.raises(StoreReplaced):
        EnclaveClient.connect(
            InProcessTransport(host), constraint="SEC:INSECURE", state=owner.folder / "alice.state", retry_delays=()
        ).send(b"get x")
