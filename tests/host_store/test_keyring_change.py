"""A host and a keyring that changes at a start: it is stored before a record that may need it, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import pytest
from host_enclaves import Ledger

from host_store.host import EnclaveHost
from host_store.in_process.channel import InProcessChannel
from host_store.intake import Intake
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.store import OutboxItem
from host_store.supervisor import EVIDENCE_SECONDS, Supervisor
from pmap.enclave import EnclaveSettings
from pmap.keyring import Keyring
from pmap.launch import read_key_file
from pmap.startup import Restart
from pmap.tee.simulated import SimulatedTee, measure
from wire.errors import Malformed, StoreUnavailable
from wire.messages import Ready
from wire.record import decode_header

SECONDS = 60.0
"""After so long a test has failed; none is meant to wait for it."""


class OrderedStore(LmdbStore):
    """A real store that notes what is stored in which order, and whose keyring's replacement can fail."""

    @classmethod
    def at(cls, path: Path) -> Self:
        store = cls.open(path)
        assert isinstance(store, cls)
        return store

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.order: list[str] = []
        self.on_replace: Callable[[], None] = lambda: None

    def replace_keyring(self, keyring: bytes) -> None:
        self.on_replace()
        super().replace_keyring(keyring)
        self.order.append("keyring")

    def append(
        self,
        n: int,
        record: bytes,
        leaf: bytes,
        *,
        trim: int,
        outbox: Iterable[OutboxItem] = (),
        drops: Iterable[tuple[int, int]] = (),
    ) -> None:
        super().append(n, record, leaf, trim=trim, outbox=list(outbox), drops=list(drops))
        self.order.append(f"generation {generation(record)}")


class RotatingChannel(InProcessChannel):
    """An enclave whose starts on a stored state rotate the key as long as ``rotations`` has an item."""

    def __init__(self, key: Path, rotations: list[None]) -> None:
        super().__init__(Ledger, key)
        self._key = key
        self._rotations = rotations

    def start(self, keyring: bytes | None, records: Iterable[bytes]) -> Ready:
        if keyring is None or not self._rotations:
            return super().start(keyring, records)
        self._rotations.pop()
        restart = Restart(Ledger(), tee(self._key), os.urandom, keyring, rotate=True)
        restart.feed(records)
        self._core = core = restart.finish()
        return Ready(core.attestation.encode(), core.checkpoint.size, restart.new_keyring, None)


class GreedyChannel(InProcessChannel):
    """An enclave that gives a first record on a stored state."""

    first: Ready

    def start(self, keyring: bytes | None, records: Iterable[bytes]) -> Ready:
        ready = super().start(keyring, records)
        if keyring is None:
            GreedyChannel.first = ready
            return ready
        return ready._replace(keyring=GreedyChannel.first.keyring, genesis=GreedyChannel.first.genesis)


def generation(record: bytes) -> int:
    return int.from_bytes(decode_header(record).epoch[:4], "big")


def tee(key: Path) -> SimulatedTee:
    secret = read_key_file(key, os.urandom, create=False)
    return SimulatedTee(secret, measure(Ledger, EnclaveSettings.of(Ledger).measured()))


def generations(store: LmdbStore, key: Path) -> list[int]:
    """Those of the stored keyring."""
    blob = store.keyring()
    assert blob is not None
    return [one.number for one in Keyring.unseal(tee(key).sealing_key("signer"), blob).generations]


def host_of(store: LmdbStore, key: Path, rotations: list[None]) -> EnclaveHost:
    intake = Intake()
    supervisor = Supervisor(lambda _on_end: RotatingChannel(key, rotations), store, intake)
    supervisor.start()
    return EnclaveHost("rotating", supervisor, intake, store, False)


def call(host: EnclaveHost, text: str) -> bytes | None:
    answer: Future[bytes | None] = host.call(text.encode())
    return answer.result(SECONDS)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "test.key"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OrderedStore]:
    with OrderedStore.at(tmp_path / "store") as opened:
        yield opened


def test_a_rotated_keyring_is_stored_before_the_first_record_under_it(store: OrderedStore, key: Path) -> None:
    rotations: list[None] = []
    with host_of(store, key, rotations) as host:
        call(host, "put a 1")
        store.order.clear()
        rotations.append(None)
        host.restart()
        assert store.order == ["keyring"]
        call(host, "put b 2")
        assert store.order == ["keyring", "generation 1"]
        host.restart()
        assert (call(host, "get a"), call(host, "get b")) == (b"1", b"2")


def test_a_keyring_that_could_not_be_stored_leaves_the_old_one_and_loses_nothing(
    store: OrderedStore, key: Path
) -> None:
    rotations: list[None] = []
    failures = [StoreUnavailable("the disk is full")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    store.on_replace = fail_once
    with host_of(store, key, rotations) as host:
        call(host, "put a 1")
        rotations.append(None)
        host.restart()  # whose first try fails at the keyring; the second one does not rotate
        assert not failures and generations(store, key) == [0]
        assert call(host, "get a") == b"1"
        call(host, "put b 2")
        assert "keyring" not in store.order and store.order[-1] == "generation 0"


def test_a_host_that_ends_between_keyring_and_record_goes_on_with_the_rotation(store: OrderedStore, key: Path) -> None:
    rotations: list[None] = []
    with host_of(store, key, rotations) as host:
        call(host, "put a 1")
        rotations.append(None)
        host.restart()
    store.order.clear()
    with host_of(store, key, rotations) as host:
        assert generations(store, key) == [0, 1]
        call(host, "put b 2")
        assert store.order == ["generation 1"]
        assert call(host, "get a") == b"1"


def test_a_generation_that_no_record_needs_leaves_the_stored_keyring_at_an_ordinary_start(
    store: OrderedStore, key: Path
) -> None:
    rotations: list[None] = []
    with host_of(store, key, rotations) as host:
        call(host, "put a 1")
        rotations.append(None)
        host.restart()
        while any(generation(record) == 0 for record in store.read(store.head().first, store.head().n + 1)):
            call(host, "put a 2")
        host.restart()
        assert generations(store, key) == [1]
        assert call(host, "get a") == b"2"
    # The real thing, a process of its own, opens it too, and has nothing to change in the keyring any more.
    store.order.clear()
    with EnclaveHost.start(Ledger, store, simulated_key=key) as host:
        assert call(host, "get a") == b"2"
    assert "keyring" not in store.order


def test_an_enclave_process_gives_its_changed_keyring_to_the_host(store: OrderedStore, key: Path) -> None:
    rotations: list[None] = []
    with host_of(store, key, rotations) as host:
        rotations.append(None)
        host.restart()
        while any(generation(record) == 0 for record in store.read(store.head().first, store.head().n + 1)):
            call(host, "put a 1")
    assert generations(store, key) == [0, 1]
    with EnclaveHost.start(Ledger, store, simulated_key=key) as host:
        assert generations(store, key) == [1]
        assert call(host, "get a") == b"1"


def test_a_first_record_on_a_stored_state_is_refused_and_not_stored(store: OrderedStore, key: Path) -> None:
    def supervisor() -> Supervisor:
        return Supervisor(lambda _on_end: GreedyChannel(Ledger, key), store, Intake())

    first = supervisor()
    first.start()
    first.stop(SECONDS)
    before = (store.keyring(), store.head())
    with pytest.raises(Malformed, match="no first record"):
        supervisor().start()
    assert (store.keyring(), store.head()) == before and store.order == []


def test_old_evidence_is_made_anew_for_the_next_client(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EnclaveHost.start(Ledger, in_process=True, store=key.parent / "store", simulated_key=key) as host:
        supervisor = host._supervisor
        made: list[bytes] = []
        channel = supervisor._channel
        assert channel is not None
        attest = channel.attest
        monkeypatch.setattr(channel, "attest", lambda: made.append(attest()) or made[-1])
        first = host.attestation()
        assert made == []
        supervisor._evidence_at -= EVIDENCE_SECONDS + 1
        assert host.attestation() == made[0] == first, "simulated evidence has no date, and the epoch is the same"
        host.attestation()
        assert len(made) == 1


def test_a_host_rotates_when_it_is_asked_to(store: OrderedStore, key: Path) -> None:
    with EnclaveHost.start(Ledger, store, simulated_key=key) as host:
        call(host, "put a 1")
        host.restart(rotate=True)
        host.restart()
        assert generations(store, key) == [0, 1]
        assert call(host, "get a") == b"1"
    with EnclaveHost.start(Ledger, store, simulated_key=key, rotate=True) as host:
        assert generations(store, key)[-1] == 2
        assert call(host, "get a") == b"1"
