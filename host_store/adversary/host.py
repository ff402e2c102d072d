"""The malicious host: what it can do, in one class. See the package's docstring for an example."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from host_store.adversary.archive import Archive, Message
from host_store.adversary.damage import Damage
from host_store.adversary.folder_medium import FolderMedium
from host_store.adversary.interference import Interference
from host_store.adversary.log_medium import LogMedium, LogSnapshot
from host_store.adversary.medium import Medium
from host_store.adversary.recording_store import FedStore, RecordingStore, StoreCall
from host_store.adversary.snapshot import Snapshot
from host_store.adversary.watching import HandlerLog, watch, write_watched_module
from host_store.adversary.wire_tap import Rules, Tap
from host_store.host import EnclaveHost
from host_store.store import Store
from wire.errors import HostUnavailable, InvalidInput, PmapError

if TYPE_CHECKING:
    from client import EnclaveClient

AnySnapshot = Snapshot | LogSnapshot

ANSWER_SECONDS: Final = 30.0
"""How long an enclave's answer is waited for."""


class _World:
    """What the hosts of one test share: the TEE's key, the clients' states, the archive."""

    def __init__(self, folder: Path, store: str | None) -> None:
        self.folder = folder
        self.store = store
        self.key_file = folder / "tee.key"
        self.archive = Archive()
        self.taps: dict[str, Tap] = {}
        self.clients: list[EnclaveClient] = []
        self.hosts: list[MaliciousHost] = []
        (folder / "clients").mkdir(parents=True, exist_ok=True)


class MaliciousHost(Interference, Damage):
    """A host that runs an enclave class, and whatever else it likes. A context manager; it runs from the start.

    ``number`` counts the hosts of one world: those that :meth:`clone` and :meth:`twin` make belong to this one's world,
    share its clients and archive, and are closed with it.
    """

    def __init__(
        self,
        enclave: type,
        *,
        folder: str | Path | None = None,
        store: str | None = None,
        process: bool = False,
        _world: _World | None = None,
        _data: AnySnapshot | None = None,
        _store: RecordingStore | None = None,
    ) -> None:
        """Start on a new store.

        Args:
            enclave: a subclass of :class:`pmap.Enclave`.
            folder: where stores, keys and clients' states go; by default a temporary folder.
            store: the URL of a store on a shared engine, in the place of one in the folder. It has to be empty; stores
                of clones go beside it, under names with an ending, and all stay there in the end.
            process: run the enclave as a process, not in this one. Its class must then be importable.

        Raises what :meth:`host_store.host.EnclaveHost.start` raises.
        """
        self._temporary = None if _world or folder else tempfile.TemporaryDirectory(prefix="pmap-adversary-")
        self._world = _world or _World(Path(self._temporary.name if self._temporary else cast("str", folder)), store)
        self.number = len(self._world.hosts)
        self._world.hosts.append(self)
        self.enclave = enclave
        self._process = process
        self._medium = self._place()
        self._handlers = HandlerLog(self._world.folder / f"handlers-{self.number}.log")
        self._rules = Rules()
        self._shared = _store is not None
        self._store: RecordingStore | None = _store
        self._fed: FedStore | None = None
        self._host: EnclaveHost | None = None
        self.trace: list[StoreCall] = []
        """Every call of the store that shows something, over all restarts of this host."""
        if _data is not None:
            self._medium.restore(_data)
        self.start()

    # --- clients -----------------------------------------------------------------------------------------

    def client(self, name: str, **options: Any) -> EnclaveClient:
        """A real client that talks to this host; its state is kept under its name, also after it was closed.

        ``options`` are those of :meth:`client.EnclaveClient.connect`.
        """
        from client import EnclaveClient, InProcessTransport

        tap = self._world.taps[name] = Tap(name, self, self._world.archive)
        settings: dict[str, Any] = {"constraint": "SEC:INSECURE", "retry_delays": (0.0, 0.0)}
        settings["state"] = self.state_file(name)
        made = EnclaveClient.connect(InProcessTransport(tap, ANSWER_SECONDS), **{**settings, **options})
        self._world.clients.append(made)
        return made

    def state_file(self, name: str) -> Path:
        """Where a client of this world keeps its state."""
        return self._world.folder / "clients" / f"{name}.state"

    def adopt(self, name: str) -> None:
        """From now on a client that is connected to another host of this world talks to this one."""
        self._world.taps[name].host = self

    # --- what passes and what is kept --------------------------------------------------------------------

    @property
    def archive(self) -> Archive:
        """Every blob and every message, of all hosts of this world."""
        return self._world.archive

    @property
    def records(self) -> list[bytes]:
        """The records that the store keeps now, oldest first."""
        store = self.running_store()
        head = store.head()
        return list(store.inner.read(head.first, head.n + 1)) if head.n else []

    @property
    def keyring(self) -> bytes:
        """The sealed keyring. Raises :class:`InvalidInput` where there is none."""
        found = self.running_store().keyring()
        if found is None:
            raise InvalidInput("this store has no keyring")
        return found

    @property
    def commits(self) -> int:
        """The number of the newest commit."""
        return self.running_store().head().n

    def attestation(self) -> bytes:
        """The enclave's attestation document."""
        return self.running().attestation()

    def deliver(self, envelope: bytes) -> bytes:
        """Hand an envelope to the enclave; its answer. Raises what the host says instead."""
        return self.running().deliver(envelope).result(ANSWER_SECONDS)

    def replay(self, message: Message) -> bytes:
        """Hand a request to the enclave that somebody sent before; as :meth:`deliver`."""
        return self.deliver(message.data)

    def call(self, data: bytes) -> bytes | None:
        """Call the enclave's ``receive_from_host``."""
        return self.running().call(data).result(ANSWER_SECONDS)

    def poll(self, address: bytes) -> list[bytes]:
        """What waits for a session."""
        return self.running().poll(address)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """A consistency proof."""
        return self.running().consistency(size1, size2)

    # --- time travel -------------------------------------------------------------------------------------

    def snapshot(self) -> AnySnapshot:
        """The store between two commits. The enclave runs on and need not notice."""
        store = self.running_store()
        if self._fed is not None:
            raise InvalidInput("the enclave runs on records that were made up, and not on what is in the store")
        with store.quiet:
            taken: AnySnapshot = self._medium.snapshot(store.inner.head().n)
        return taken

    def restore(self, snapshot: AnySnapshot) -> None:
        """Put a snapshot in the store's place, byte for byte, and start on it."""
        self.stop()
        self._fed = None
        self._medium.restore(snapshot)
        self.start()

    def restore_outbox_only(self, snapshot: AnySnapshot) -> None:
        """Put back the waiting replies and mails of a snapshot, and nothing else."""
        self._change(lambda medium: medium.put_outbox_of(snapshot))

    def clone(self, snapshot: AnySnapshot | None = None, enclave: type | None = None) -> MaliciousHost:
        """A second host and enclave that go on from the same state, or from a snapshot; perhaps with other code."""
        return MaliciousHost(
            enclave or self.enclave,
            process=self._process,
            _world=self._world,
            _data=self.snapshot() if snapshot is None else snapshot,
        )

    def twin(self) -> MaliciousHost:
        """A second host and enclave on this very store, at the same time."""
        return MaliciousHost(self.enclave, process=self._process, _world=self._world, _store=self.running_store())

    def start_anew(self) -> None:
        """Delete the store and say that this is the first start."""
        self.stop()
        self._fed = None
        self._medium.delete()
        self.start()

    def feed(self, records: Sequence[bytes], keyring: bytes | None = None) -> None:
        """Start the enclave on these records, whatever the disk holds; until :meth:`restore`.

        ``keyring``: the store's own, if None. Raises what the enclave says of it.
        """
        blob = self.keyring_on_disk() if keyring is None else keyring
        self.stop()
        self._fed = FedStore(blob, records)
        self.start()

    def restore_disk(self) -> None:
        """After :meth:`feed`: run on what the folder holds again."""
        self.stop()
        self._fed = None
        self.start()

    # --- life and death ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the enclave on what the store holds; nothing happens if it runs. Raises what it says of the store."""
        if self._host is not None:
            return
        persistent = bool(getattr(self.enclave, "persistent_map", False))
        if self._store is None and persistent:
            self._store = RecordingStore(self._fed or self._medium.open(), self._world.archive)
        if self._store is not None:
            self._store.trace = self.trace
        enclave, folder = self._watched()
        try:
            self._host = EnclaveHost.start(
                enclave,
                cast("Store | None", self._store),
                in_process=not self._process,
                simulated_key=self._world.key_file,
                import_from=folder,
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the enclave in order and close the store. Again is fine."""
        self._end(drain_seconds=ANSWER_SECONDS)

    def restart(self) -> None:
        """Start the enclave anew, in a new epoch. Raises what it says of the store."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Lose everything that is not in the store, now; then start again."""
        if self._store is not None:
            self._store.die()
        self._end(drain_seconds=0.0)
        self.start()

    @contextmanager
    def crashing(self, call: str, *, before: bool, skip: int = 0) -> Iterator[None]:
        """Go down at a call of the store inside the block (see :meth:`RecordingStore.crash_at`); start again after it.

        Raises :class:`AssertionError` if the block did not get that far.
        """
        store = self.running_store()
        store.crash_at(call, before=before, skip=skip)
        yield
        assert store.reached.is_set(), f"no {call} came to crash at"
        self._end(drain_seconds=0.0)
        self.start()

    @property
    def failure(self) -> PmapError | None:
        """Why the honest parts of this host gave up."""
        return None if self._host is None else self._host.failure

    def running(self) -> EnclaveHost:
        """The host underneath. Raises :class:`HostUnavailable` while it is stopped."""
        if self._host is None:
            raise HostUnavailable("the host is down")
        return self._host

    def close(self) -> None:
        """Close every client and host of this world. Again is fine."""
        for client in self._world.clients:
            with suppress(PmapError):
                client.close()
        for host in self._world.hosts:
            host.stop()
            host._medium.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is asserted --------------------------------------------------------------------------------

    @property
    def handlers_ran(self) -> int:
        """How often a handler of this host's enclaves was run since :meth:`reset_handlers`."""
        return len(self._handlers.runs())

    @property
    def handled(self) -> list[bytes]:
        """The first 256 bytes of each body that a handler was run on since :meth:`reset_handlers`."""
        return self._handlers.runs()

    def reset_handlers(self) -> None:
        """Count from here on."""
        self._handlers.reset()

    def assert_no_handler_ran(self) -> None:
        """Raises :class:`AssertionError` if one ran in this host's enclaves since :meth:`reset_handlers`."""
        assert not self.handled, f"handlers ran on {self.handled}"

    @contextmanager
    def refuses(self, error: type[PmapError]) -> Iterator[list[PmapError]]:
        """Assert that the block raises exactly this class, and that no handler ran in any host of this world.

        The exception is in the list afterwards.
        """
        before = [host.handlers_ran for host in self._world.hosts]
        caught: list[PmapError] = []
        try:
            yield caught
        except PmapError as raised:
            assert type(raised) is error, f"expected {error.__name__}, got {type(raised).__name__}: {raised}"
            caught.append(raised)
        assert caught, f"nothing was raised where {error.__name__} was expected"
        assert [host.handlers_ran for host in self._world.hosts] == before, "a handler ran all the same"

    # --- underneath --------------------------------------------------------------------------------------

    def keyring_on_disk(self) -> bytes:
        """The keyring of the store, whatever the enclave runs on."""
        if self._store is not None and self._fed is None:
            return self.keyring
        with closing(self.open_store()) as store:
            found = store.keyring()
        assert found is not None
        return found

    def open_store(self) -> Store:
        """The store itself, for whoever stopped the host or feeds it; to be closed before the host starts on it."""
        return self._medium.open()

    def crash_at(self, call: str, *, before: bool, skip: int = 0) -> None:
        """Order a crash without a ``with`` block: :meth:`crash` then starts again."""
        self.running_store().crash_at(call, before=before, skip=skip)

    def running_store(self) -> RecordingStore:
        """The store underneath. Raises :class:`InvalidInput` while there is none."""
        if self._store is None:
            raise InvalidInput("this host has no store, or is stopped")
        return self._store

    def _place(self) -> Medium:
        if self._world.store is None:
            return FolderMedium(self._world.folder / f"store-{self.number}")
        first = LogMedium(self._world.store)
        if not self.number:
            return first
        first.close()
        return first.beside(str(self.number))

    def _change(self, change: Callable[[Medium], None]) -> None:
        if self._fed is not None:
            raise InvalidInput("the enclave runs on records that were made up: restore a snapshot first")
        self.stop()
        change(self._medium)
        self.start()

    def _end(self, drain_seconds: float) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close(drain_seconds)
        store, self._store = self._store, None
        if store is not None and not self._shared:
            store.close()

    def _watched(self) -> tuple[str | type, Path | None]:
        if not self._process:
            return watch(self.enclave, self._handlers.file), None
        known = [entry or os.getcwd() for entry in sys.path]
        return write_watched_module(self.enclave, self._world.folder, self._handlers.file, known), self._world.folder
