"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Self

from client.comparison import compare
from client.constraint import Constraint
from client.endorsements import NO_ENDORSEMENTS, EndorsementsFrom
from client.invite import Invite
from client.knowledge import Knowledge, delays_until
from client.opening import open_session
from client.reply import InboxMail, Receipt, Reply, Resolved
from client.session import INBOX_TOPIC, RETRY_DELAYS, Session
from client.state_file import StateFile
from client.sync_driver import Driver
from client.transport import HttpTransport, Transport
from wire.checkpoint import Checkpoint
from wire.errors import PmapError
from wire.padding import Padding, padme


class EnclaveClient(Knowledge):
    """A client of one enclave. :meth:`connect` makes one.

    Several threads may use it; one request is under way on each topic at a time, so give each thread a topic of its
    own if they shall not wait for each other. Operations raise :class:`wire.errors.PmapError` only. After
    :class:`OutcomeUnknown` the mail is not lost: :meth:`recover`, or the next mail on its topic, settles it first.
    """

    def __init__(
        self, session: Session, transport: Transport, file: StateFile | None, on_restart: Callable[[], object] | None
    ) -> None:
        super().__init__(session)
        self._driver = Driver(session, transport, file, on_restart)

    @classmethod
    def connect(
        cls,
        host: str | Transport,
        *,
        constraint: str | Constraint,
        state: str | PathLike[str] | None = None,
        state_key: bytes | None = None,
        sync_receipts: bool = True,
        invite: str | None = None,
        endorsements: EndorsementsFrom = NO_ENDORSEMENTS,
        on_restart: Callable[[], object] | None = None,
        timeout: float = 30.0,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        padding: Padding = padme,
    ) -> Self:
        """Check which enclave a host runs, and get ready to talk to it.

        Args:
            host: its address, such as ``"http://127.0.0.1:8080"``, or a transport.
            constraint: which enclaves are acceptable (:mod:`client.constraint`); checked again after each restart.
            state: the file of this client's keys and evidence; made if it is missing. None: in memory only, so that
                nothing holds the host to what it has said to an earlier client.
            state_key: 32 bytes to encrypt it with; without, a key is kept beside it.
            sync_receipts: sync the file after each reply, too, and not only before each mail. Without it a mail takes
                half of the syncs; but if this machine loses power, the evidence of the last replies may be lost, and
                if the host rolls back just those, this client does not notice.
            invite: somebody else's :meth:`invite`, to start from their evidence.
            endorsements: what the TEE's vendor says of the platform, where the evidence does not carry it: the folder
                that it is in, which is read again at each attestation, or the thing itself.
            on_restart: called after an operation that found the enclave restarted.
            timeout: seconds for one exchange with the host.
            retry_delays: seconds to wait between attempts to reach it.
            padding: how mails are padded.

        Raises:
            AttestationError: not the enclave that was asked for.
            StoreReplaced: another store than the one that ``state`` belongs to.
            StoreLocked, WrongKey, CorruptedStore, StoreUnavailable: about the state file.
            HostUnavailable, InvalidInput.
        """
        transport = HttpTransport(host, timeout) if isinstance(host, str) else host
        session, file = open_session(
            constraint, state, state_key, invite, retry_delays, padding, endorsements, sync_receipts=sync_receipts
        )
        client = cls(session, transport, file, on_restart)
        try:
            client._driver.operate(session.start())
        except BaseException:
            client._driver.release()
            raise
        return client

    def send(self, body: bytes, topic: str = "default") -> Reply:
        """Have the enclave process a mail, exactly once, and return its reply.

        Raises:
            MailFailed: the handler raised; its changes were undone.
            RollbackDetected, ForkDetected, StoreReplaced, AttestationError: the host was caught. What it shows now has
                executed nothing; a mail that had left before stays pending.
            ClientStale: not executed; this client's state is old, or used by two devices.
            OutcomeUnknown: no answer; executed or not is open.
            ReplyWithheld: executed, but the host does not deliver the reply.
            PmapError: others of the tree in :mod:`wire.errors`; not executed.
        """
        return self._driver.operate(self._session.send(topic, body), topic)

    def heartbeat(self, topic: str = "default") -> Receipt:
        """Tell the enclave what was received, without running its handler. Raises what :meth:`send` raises."""
        return self._driver.operate(self._session.heartbeat(topic), topic)

    def wait_stable(self, receipt: Receipt, timeout: float = 10.0, topic: str = "default") -> None:
        """Wait until a quorum holds evidence of the receipt's commit: then it cannot be rolled back unnoticed.

        Raises :class:`HostUnavailable` after ``timeout`` seconds, and what :meth:`heartbeat` raises.
        """
        delays = delays_until(time.monotonic() + timeout)
        self._driver.operate(self._session.wait_stable(receipt, topic, delays), topic)

    def poll(self) -> list[InboxMail]:
        """The mails that the enclave has sent on its own, in order. The next call, or a close without an exception,
        tells that they were dealt with; after a crash they are given out again, with the same numbers.

        Raises :class:`GapRefused` if the host withholds one.
        """
        return self._driver.operate(self._session.poll(), INBOX_TOPIC)

    def recover(self, *, resend: bool = True) -> list[Resolved]:
        """Settle every mail whose outcome is open, and say what became of it.

        With ``resend`` those that were not executed are, now; without, they never will be.
        """
        self._session.check_verdict()
        resolved = []
        for topic in self._driver.pending_topics():
            one = self._driver.operate(self._session.resolve(topic, resend=resend), topic)
            if one is not None:
                resolved.append(one)
        return resolved

    def compare(self, other: Checkpoint | str) -> None:
        """Compare evidence with another client's checkpoint, or its note: see :func:`client.comparison.compare`."""
        self._driver.operate(compare(self._session, other))

    def invite(self) -> str:
        """A text for a newcomer's ``connect(invite=...)``: this store, and this client's evidence of it."""
        self._driver.operate(self._session.open())
        return Invite.of(self._session.state).encode()

    def accept_rollback(self) -> None:
        """By explicit choice, go on with what the host has: see :meth:`client.session.Session.accept_rollback`.

        Nothing else may be under way.
        """
        self._driver.operate(self._session.accept_rollback())

    def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        self._session.take_over()
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            # What poll() gave out may not have been dealt with, so it is not taken over; and this error counts more.
            with suppress(PmapError):
                self._driver.close()
