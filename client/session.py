"""Everything that a client can do, as a protocol machine without I/O: bytes in, effects out.

Every operation is a generator of :mod:`client.effects`, driven by :mod:`client.sync` and :mod:`client.aio` alike.
Operations on one topic must not overlap, nor must two :meth:`Session.poll`; the drivers keep one lock per topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from client.acceptance import pin_of, take_inbox
from client.constraint import Constraint
from client.courier import Courier
from client.effects import PollMail, Save, Steps, Wait
from client.endorsements import NO_ENDORSEMENTS, EndorsementsFrom
from client.handshake import Handshake
from client.recovery import Settled
from client.reply import Fate, InboxMail, MailFailed, Receipt, Reply, Resolved
from client.state import ClientState
from wire.crypto import KEY_BYTES, Randomness, SigningKey, system_randomness
from wire.errors import (
    Fault,
    GapRefused,
    HostUnavailable,
    InvalidInput,
    MailTooLarge,
    Malformed,
    OutcomeUnknown,
    ReplyWithheld,
)
from wire.limits import MAX_BODY_BYTES
from wire.mail import Outcome, RequestKind, check_topic
from wire.padding import Padding, padme

RETRY_DELAYS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between one attempt to reach the host and the next."""
INBOX_TOPIC: Final = "inbox"
"""The stream of the heartbeats that acknowledge inbox mails."""


class Session:
    """One client's state and operations. ``receipt``: the last one; ``stable``: the highest size that was so called."""

    def __init__(
        self,
        state: ClientState,
        constraint: Constraint,
        *,
        delays: Sequence[float] = RETRY_DELAYS,
        randomness: Randomness = system_randomness,
        padding: Padding = padme,
        endorsements: EndorsementsFrom = NO_ENDORSEMENTS,
    ) -> None:
        self.state = state
        self.handshake = Handshake(state, constraint, delays, randomness, endorsements)
        self.receipt: Receipt | None = None
        self.stable = 0
        self._courier = Courier(state, self.handshake, delays, randomness, padding)
        self._randomness = randomness
        self._handed_out = 0

    @property
    def client_id(self) -> str:
        """The client's public key in hexadecimal: what the enclave knows it by."""
        return SigningKey(self.state.seed).public.hex()

    @property
    def store_id(self) -> bytes:
        """The store's id, 16 bytes, once it is pinned."""
        return pin_of(self.state).store_id

    @property
    def checkpoint_key(self) -> bytes:
        """The public key that the store's checkpoints and alarms are signed with, once it is pinned."""
        return pin_of(self.state).checkpoint_key

    @property
    def pending_topics(self) -> list[str]:
        """Topics with a mail whose outcome is open."""
        return [topic for topic, stream in self.state.streams.items() if stream.pending is not None]

    def check_verdict(self) -> None:
        """Raises :class:`RollbackDetected` or :class:`ForkDetected` once one was proved to this client."""
        if self.state.verdict is not None:
            raise self.state.verdict.error()

    def start(self) -> Steps[None]:
        """Check the attestation. The session itself is opened by the first operation that needs one."""
        yield from self.handshake.attest()
        yield Save(durable=False)

    def renew(self, dead: bytes | None) -> Steps[None]:
        """See :meth:`client.handshake.Handshake.renew`; the driver runs it for :class:`client.effects.Renew`."""
        self.check_verdict()
        yield from self.handshake.renew(dead)

    def open(self) -> Steps[None]:
        """Have a session, and with it a checkpoint."""
        self.check_verdict()
        yield from self.handshake.ensure_session()

    # --- mails -------------------------------------------------------------------------------------------

    def send(self, topic: str, body: bytes) -> Steps[Reply]:
        """Have the enclave process a mail, once.

        Raises :class:`MailFailed` if its handler raised, and what :meth:`client.courier.Courier.send` says.
        """
        return self._reply((yield from self._transact(RequestKind.MAIL, topic, body)))

    def heartbeat(self, topic: str) -> Steps[Receipt]:
        """Acknowledge what was received; no handler runs."""
        return self._noted((yield from self._transact(RequestKind.HEARTBEAT, topic, b""))).receipt

    def wait_stable(self, receipt: Receipt, topic: str, delays: Iterable[float]) -> Steps[None]:
        """Send heartbeats until a quorum holds evidence of the receipt's commit, waiting ``delays`` in between.

        Raises :class:`HostUnavailable` when there are no more delays.
        """
        if receipt.checkpoint is None:
            raise InvalidInput("this enclave keeps no state: nothing of it becomes stable")
        waits = iter(delays)
        while self.stable < receipt.commit:
            yield from self.heartbeat(topic)
            if self.stable >= receipt.commit:
                return
            delay = next(waits, None)
            if delay is None:
                raise HostUnavailable(
                    f"commit {receipt.commit} has not become stable in time: a quorum of the voters holds evidence"
                    f" of commit {self.stable} only"
                )
            yield Wait(delay)

    def resolve(self, topic: str, *, resend: bool = True) -> Steps[Resolved | None]:
        """Find out what became of the pending mail, and with ``resend`` see to it that it is executed.

        None if there is no pending mail (heartbeats do not count). Raises :class:`OutcomeUnknown` if it stays open.
        """
        self.check_verdict()
        stream = self.state.stream(topic)
        if stream.pending is None:
            return None
        request = stream.pending.request
        try:
            settled = yield from self._courier.settle(stream, resend=resend)
            if settled is None and resend:
                settled = yield from self._courier.send(request.kind, topic, request.body)
        except ReplyWithheld as error:
            return Resolved(topic, request.body, Fate.WITHHELD, error=error)
        except OutcomeUnknown as error:
            if topic in self.pending_topics:
                raise
            return Resolved(topic, request.body, Fate.UNKNOWN, error=error)
        if request.kind is RequestKind.HEARTBEAT:
            return None
        if settled is None:
            return Resolved(topic, request.body, Fate.NOT_EXECUTED)
        try:
            return Resolved(topic, request.body, Fate.EXECUTED, reply=self._reply(settled))
        except MailFailed as error:
            return Resolved(topic, request.body, Fate.FAILED, error=error)

    def _transact(self, kind: RequestKind, topic: str, body: bytes) -> Steps[Settled]:
        self.check_verdict()
        _check_mail(topic, body)
        if self.state.stream(topic).pending is not None:
            try:
                yield from self.resolve(topic)
            except OutcomeUnknown as error:
                raise HostUnavailable(
                    f"this mail was not sent: the outcome of the one before it on topic {topic!r} is still open"
                ) from error
        return (yield from self._courier.send(kind, topic, body))

    def _noted(self, settled: Settled) -> Settled:
        self.receipt = settled.receipt
        self.stable = max(self.stable, settled.receipt.stable)
        return settled

    def _reply(self, settled: Settled) -> Reply:
        outcome, payload, receipt = self._noted(settled)
        if outcome is Outcome.HANDLER_FAILED:
            raise MailFailed((payload or b"").decode(errors="replace"), receipt)
        return Reply(payload, receipt)

    # --- inbox -------------------------------------------------------------------------------------------

    def poll(self) -> Steps[list[InboxMail]]:
        """The mails that the enclave has sent on its own. They count as taken at the next call, or a clean close.

        Raises :class:`GapRefused` if the host withholds one.
        """
        self.check_verdict()
        state = self.state
        self.take_over()
        yield from self.handshake.ensure_session()
        yield from self._fetch_inbox()
        if not state.inbox:
            # Perhaps the enclave restarted: it sends its mails to the sessions that it knows.
            yield from self.handshake.attest()
            if self.handshake.session_is_over:
                yield from self.handshake.ensure_session()
                yield from self._fetch_inbox()
        if not state.inbox and state.inbox_next < state.inbox_announced:
            # Acknowledging what was taken lets the host forget it, and get to what comes after it.
            yield from self.heartbeat(INBOX_TOPIC)
            yield from self._fetch_inbox()
            if not state.inbox:
                error = GapRefused(
                    f"the host withholds inbox mail {state.inbox_next}; {state.inbox_announced} were sent"
                )
                error.fault = Fault.HOST
                raise error
        self._handed_out = len(state.inbox)
        yield Save(durable=False)
        return list(state.inbox)

    def take_over(self) -> None:
        """The user has dealt with the mails that the last :meth:`poll` gave out."""
        del self.state.inbox[: self._handed_out]
        self._handed_out = 0

    def _fetch_inbox(self) -> Steps[None]:
        keys = self.state.session
        assert keys is not None
        delays = iter(self.handshake.delays)
        while True:
            try:
                untrusted_messages = yield PollMail(keys.id)
                break
            except (HostUnavailable, Malformed):
                delay = next(delays, None)
                if delay is None:
                    raise
                yield Wait(delay)
        if self.state.session is keys:  # else they are an older session's, perhaps of another fork
            take_inbox(self.state, keys, untrusted_messages)

    # --- after a verdict ---------------------------------------------------------------------------------

    def accept_rollback(self) -> Steps[None]:
        """By explicit choice: go on with what the host has now, and forget all evidence against it.

        The client gets a new key, because the enclave would rightly refuse the old one without its evidence;
        what became of pending mails is not found out. Store and voters stay pinned.
        """
        state = self.state
        fresh = ClientState(self._randomness(KEY_BYTES), pin=pin_of(state), inbox=state.inbox)
        for name in ClientState.__slots__:
            setattr(state, name, getattr(fresh, name))
        self.receipt, self.stable = None, 0
        yield Save(durable=True)


def _check_mail(topic: str, body: bytes) -> None:
    """Raises :class:`InvalidInput` and :class:`MailTooLarge`."""
    if not isinstance(body, bytes):
        raise InvalidInput(f"a mail's body is bytes, not {type(body).__name__}")
    if len(body) > MAX_BODY_BYTES:
        raise MailTooLarge(f"a body of {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    try:
        check_topic(topic)
    except (Malformed, TypeError, AttributeError) as error:
        raise InvalidInput(f"not a topic: {error}") from error
