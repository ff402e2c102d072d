"""A host of one enclave: takes mail in, has it processed, stored and only then answered, and keeps the enclave running.

One thread does the work (:mod:`host_store.supervisor`, :mod:`host_store.writer`), with another one behind a slow store
(:mod:`host_store.store_thread`); the queue before it (:mod:`host_store.intake`) makes batches of what arrives
meanwhile. Every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from host_store.channel_factory import channel_factory, name_of
from host_store.intake import Intake, Item, Promise
from host_store.standby import WaitingEnclave, stand_by
from host_store.store import Store
from host_store.stores.url import StoreUrl, open_store
from host_store.supervisor import State, Supervisor
from wire.boundary import Incoming, IncomingKind
from wire.errors import InvalidInput, Malformed, PmapError, StoreMissing
from wire.mail import SESSION_BYTES
from wire.merkle import prove_consistency
from wire.tee.choice import TeeChoice

DRAIN_SECONDS: Final = 30.0
"""How long :meth:`EnclaveHost.close` waits for what is on its way before it kills the enclave."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host at one moment. Nothing in it is secret."""

    state: str
    """``running``, ``restarting``, ``failed`` or ``closed``."""
    enclave: str
    pid: int | None
    """The enclave's process; None if it has none of its own, or does not run."""
    epoch: str
    """The first 16 hexadecimal digits of the running incarnation's epoch; empty if none runs."""
    persistent: bool | None
    """Whether the enclave keeps state; None before the first start."""
    n: int
    """The newest durable commit."""
    waiting: int
    """Mails that the enclave has not been given yet."""
    starts: int
    """Incarnations since this host was started."""
    failure: str
    """Why the enclave does not run; empty if it does."""


class EnclaveHost:
    """One enclave, running. :meth:`start` makes one; it is a context manager."""

    def __init__(self, name: str, supervisor: Supervisor, intake: Intake, store: Store | None, owned: bool) -> None:
        self._name = name
        self._supervisor = supervisor
        self._intake = intake
        self._store = store
        self._owned = owned

    @classmethod
    def start(
        cls,
        enclave: str | type,
        store: Store | str | Path | None = None,
        *,
        in_process: bool = False,
        simulated_key: str | Path | None = None,
        tee: TeeChoice | None = None,
        enclave_command: Sequence[str] | None = None,
        rotate: bool = False,
        import_from: str | Path | None = None,
        create: bool = True,
        standby: bool = False,
        on_wait: Callable[[str], None] | None = None,
    ) -> EnclaveHost:
        """Start an enclave on a store.

        Args:
            enclave: ``"MODULE:CLASS"``, or the class itself.
            store: a store's URL or folder (:mod:`host_store.stores.url`), or an open store, which stays the caller's
                to close. None: for enclaves that keep no state.
            in_process: run the enclave in this process, not in one of its own.
            simulated_key: the simulated TEE's key file; by default beside the store's folder: ``state/`` has
                ``state.key``. Made if the store is new.
            tee: the TEE to run in, in the place of ``simulated_key``.
            enclave_command: the program that runs the enclave, such as Gramine's loader, in the place of all that says
                how: what it runs, and where, stands in what that program measures.
            rotate: encrypt a stored state from now on under a new generation of its key.
            import_from: a folder to look for the enclave's module in, before all others. A class is looked for where
                it came from, a name also in the current folder.
            create: whether to make a new store where there is none.
            standby: while another host serves the store, which is given by its URL, wait, with the enclave started.
            on_wait: called with the other host's name, once, when everything is ready and only the waiting is left.

        Raises:
            InvalidInput: no such enclave, settings that make no sense, a path that cannot be a store.
            StoreMissing, StoreLocked, StoreUnavailable: as :func:`host_store.stores.url.open_store`.
            WrongKey, CorruptedStore, UnsupportedVersion, DowngradeRefused, RollbackDetected, ForkDetected,
                StoreHandedOver: what the enclave says of its store.
            TeeUnavailable: the TEE gives no key or evidence.
            HostUnavailable: the enclave process could not be run, or ended.
        """
        url = StoreUrl.parse(store) if isinstance(store, str | Path) else None
        if tee is not None or enclave_command is not None:
            if simulated_key is not None or (tee is not None and enclave_command is not None):
                raise InvalidInput("name one of these: simulated_key, tee, enclave_command")
        elif simulated_key is None and store is not None:
            if url is None or url.path is None:
                raise InvalidInput("with such a store, name the simulated TEE's key file: simulated_key=...")
            simulated_key = _default_key_file(url.path)
        if tee is None:
            tee = TeeChoice(simulated_key=None if simulated_key is None else Path(simulated_key).absolute())
        open_channel = channel_factory(enclave, enclave_command or tee, in_process, import_from)
        opened = None if isinstance(store, str | Path) else store
        waiting: WaitingEnclave | None = None
        if standby:
            if url is None:
                raise InvalidInput("a host that stands by opens its store itself: name it by its URL")
            opened, waiting = stand_by(url, open_channel, on_wait)
            open_channel = waiting
        elif url is not None:
            opened = open_store(url, create=create)
        try:
            if not create and opened is not None and opened.keyring() is None:
                raise StoreMissing(f"the store {'that was given' if url is None else url.shown} is empty")
            intake = Intake()
            supervisor = Supervisor(open_channel, opened, intake, rotate=rotate)
            supervisor.start()
        except BaseException:
            if opened is not None and opened is not store:
                opened.close()
            if waiting is not None:
                waiting.close()
            raise
        return cls(name_of(enclave), supervisor, intake, opened, opened is not store)

    # --- mail ---

    def deliver(self, envelope: bytes) -> Future[bytes]:
        """Hand a client's hello or mail to the enclave; the future is its encrypted answer.

        It is done once everything that the answer tells of is durable. It cannot be cancelled. Its errors:

            Malformed, Undecryptable: not a mail, or not one for this enclave.
            SessionUnknown: the enclave was started anew since the client's hello.
            ReplyWithheld: a repeated mail whose reply is not in the store any more.
            HostUnavailable: whether the mail was executed is not known.

        Raises at once, and nothing was done: MailTooLarge; HostUnavailable (busy, closing, or the enclave is down);
        what the host failed with for good (StoreFenced, CorruptedStore, ...).
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        self._intake.put(Incoming(IncomingKind.MAIL, envelope), future)
        return future

    def deliver_all(self, mails: Iterable[tuple[bytes, Promise]]) -> None:
        """As :meth:`deliver`, of several mails at once, for callers with promises of their own. Raises nothing: what
        :meth:`deliver` raises at once is a promise's error here."""
        self._intake.put_all([Item(Incoming(IncomingKind.MAIL, mail), promise) for mail, promise in mails])

    def call(self, data: bytes) -> Future[bytes | None]:
        """Call the enclave's ``receive_from_host``. Errors as of :meth:`deliver`, and HandlerFailed."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._intake.put(Incoming(IncomingKind.CALL, data), future)
        return future

    def poll(self, session: bytes) -> list[bytes]:
        """The envelopes that wait for a session (16 bytes), oldest first.

        Raises :class:`Malformed` for another length and :class:`wire.errors.StoreError`.
        """
        if len(session) != SESSION_BYTES:
            raise Malformed(f"a session has {SESSION_BYTES} bytes, not {len(session)}")
        return self._supervisor.writer.poll(session)

    def keyring(self) -> bytes | None:
        """The stored keyring, sealed. Raises :class:`wire.errors.StoreError`."""
        return None if self._store is None else self._store.keyring()

    # --- evidence ---

    def attestation(self) -> bytes:
        """The running incarnation's attestation document. Raises :class:`HostUnavailable` while there is none."""
        return self._supervisor.document()

    def consistency(self, size: int, to_size: int) -> list[bytes]:
        """The hashes that show that commit ``to_size``'s history begins with that of commit ``size``.

        Raises :class:`InvalidInput` for sizes that are none and :class:`wire.errors.StoreError`.
        """
        store, n = self._store, self._supervisor.writer.n
        if store is None or not 0 < size <= to_size <= n:
            raise InvalidInput(f"there is no proof from {size} to {to_size}: the store has {n} commits")
        return prove_consistency(size, to_size, store.node)

    # --- life ---

    @property
    def failure(self) -> PmapError | None:
        """Why the host stopped for good; None while it works, or tries to."""
        return self._supervisor.failure if self._supervisor.state is State.FAILED else None

    def status(self) -> HostStatus:
        """Where the host stands."""
        supervisor = self._supervisor
        state, attestation = supervisor.state, supervisor.attestation
        return HostStatus(
            state=state.value,
            enclave=self._name,
            pid=supervisor.pid,
            epoch=attestation.epoch.hex()[:16] if attestation is not None and state is State.RUNNING else "",
            persistent=None if attestation is None else attestation.persistent,
            n=supervisor.writer.n,
            waiting=len(self._intake),
            starts=supervisor.starts,
            failure="" if supervisor.failure is None else str(supervisor.failure),
        )

    def restart(self, *, rotate: bool = False) -> None:
        """Finish what is on its way, then start the enclave anew from the store, in a new epoch; ``rotate``: with a new
        key for its records.

        Raises what keeps it from running.
        """
        self._supervisor.restart(rotate=rotate)

    # --- hand-over ---

    def invite(self) -> bytes:
        """Begin to hand the store over: the message for the successor.

        Raises :class:`InvalidInput` for an enclave that hands its store to nobody, and :class:`HostUnavailable`.
        """
        return self._supervisor.ask(lambda channel: channel.invite())

    def hand_over(self, request: bytes, endorsements: bytes) -> bytes:
        """Answer the successor: the package for it. This host then serves no more, and fails with StoreHandedOver.

        Raises :class:`AttestationError` (each reason its own class), :class:`InvalidInput`, :class:`LimitExceeded`:
        refused, and this host goes on. :class:`HostUnavailable`.
        """
        return self._supervisor.hand_over(request, endorsements)

    def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Take no more mail in, finish what was taken, end the enclave, close a store that was opened by path."""
        self._supervisor.stop(drain_seconds)
        if self._owned and self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _default_key_file(store: Path) -> Path:
    """Beside the store, never in it: whoever copies or restores the store does not take the key along."""
    folder = store.absolute()
    if not folder.name:
        raise InvalidInput(f"{store} has no room beside it for a key file: name one")
    return folder.with_name(folder.name + ".key")


__all__ = ["DRAIN_SECONDS", "EnclaveHost", "HostStatus"]
