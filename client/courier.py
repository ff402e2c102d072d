"""A mail's way to the enclave and its reply's way back, without I/O.

The envelope is written to the state, durably, before it leaves; the same bytes are sent again while no answer comes
(the enclave executes them once); what answers it must pass :mod:`client.acceptance`. When the enclave no longer
knows the session, the reply may still wait at the host; else RECOVER asks the enclave what became of the mail: it
tells, or makes sure that the mail is never executed under this number. Only then is it sent anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from client.acceptance import (
    accept,
    check_answer,
    check_checkpoint,
    decode_recovered,
    find_reply,
    open_answer,
    pin_of,
    receipt_of,
    refusal_of,
)
from client.effects import Deliver, PollMail, Renew, Save, Steps, Wait
from client.handshake import NO_ANSWER, ONLY_SAID, Handshake, has_moved_on
from client.reply import Receipt
from client.state import ClientState, Pending, SessionKeys, Stream
from wire.checkpoint import Checkpoint
from wire.crypto import Randomness
from wire.errors import (
    ClientStale,
    EvidenceUnproven,
    ForkDetected,
    HostUnavailable,
    LimitExceeded,
    MailTooLarge,
    OutcomeUnknown,
    PmapError,
    ReplayRefused,
    ReplyWithheld,
    RollbackDetected,
    SessionUnknown,
    StoreError,
)
from wire.mail import Outcome, Request, RequestKind, mail_digest, request_id, seal_request
from wire.mail import Reply as Answer
from wire.padding import Padding

_MOST_SENDINGS: Final = 8
"""So often a mail is sent anew because the enclave restarted in between."""


class Settled(NamedTuple):
    """A processed mail: EXECUTED, HANDLER_FAILED or HEARTBEAT, the payload, and the receipt."""

    outcome: Outcome
    payload: bytes | None
    receipt: Receipt


class Courier:
    """Sends mails and finds out what became of them. Work on one stream must not overlap."""

    def __init__(
        self,
        state: ClientState,
        handshake: Handshake,
        delays: Sequence[float],
        randomness: Randomness,
        padding: Padding,
    ) -> None:
        self._state = state
        self._handshake = handshake
        self._delays = delays
        self._randomness = randomness
        self._padding = padding

    def ensure_session(self, dead: bytes | None = None) -> Steps[None]:
        """Have a session open that is not ``dead``, nor of another epoch than the attested one."""
        session = self._state.session
        if session is None:
            yield Renew(None)
        elif session.id == dead or self.session_is_over:
            yield Renew(session.id)

    @property
    def session_is_over(self) -> bool:
        """Whether the session is of another epoch than the one that was attested last."""
        session, epoch = self._state.session, self._handshake.epoch
        return session is not None and epoch is not None and session.epoch != epoch

    def send(self, kind: RequestKind, topic: str, body: bytes) -> Steps[Settled]:
        """Send a mail under the next number of its topic, which has none pending.

        Raises:
            OutcomeUnknown: no answer came; the mail stays pending.
            ReplyWithheld: executed, and its reply is lost.
            HostUnavailable, MailTooLarge: not executed.
            PmapError: what the enclave refused it with.
        """
        stream = self._state.stream(topic)
        for _ in range(_MOST_SENDINGS):
            yield from self.ensure_session()
            assert self._state.session is not None
            self._seal(stream, kind, topic, body, self._state.session)
            try:
                yield Save(durable=True)
            except PmapError:
                stream.pending = None  # it never left
                raise
            settled = yield from self.settle(stream)
            if settled is not None:
                return settled
        raise HostUnavailable(
            f"the enclave restarted {_MOST_SENDINGS} times while a mail was on its way to it; it was not executed"
        )

    def settle(self, stream: Stream, *, resend: bool = True) -> Steps[Settled | None]:
        """Settle the pending mail; None: it was not executed and, under its number, never will be.

        ``resend``: while its session lives, its envelope may be sent again, and so be executed now.

        Raises what :meth:`send` raises.
        """
        topic = _pending(stream).request.topic
        try:
            return (yield from self._settle(stream, resend))
        except (HostUnavailable, StoreError) as error:
            raise _open(topic, error) from error

    def _settle(self, stream: Stream, resend: bool) -> Steps[Settled | None]:
        session, dead, too_large = self._state.session, None, None
        if resend and session is not None and session.id == _pending(stream).keys.id:
            try:
                return (yield from self._deliver(stream))
            except SessionUnknown:
                dead = session.id
            except MailTooLarge as error:
                # Only the host says so. It must not be able to execute the mail all the same, so it is recovered.
                too_large = error
            except (ReplayRefused, ReplyWithheld):
                pass  # it was processed or fenced before, says the enclave or the host: ask which
            except OutcomeUnknown as error:
                if isinstance(error.__cause__, HostUnavailable):
                    raise
                # The host does answer, if nothing that is one: perhaps it lets another question through.
        settled = yield from self._recover(stream, dead)
        if settled is None and too_large is not None:
            raise too_large
        return settled

    # --- delivering --------------------------------------------------------------------------------------

    def _seal(
        self, stream: Stream, kind: RequestKind, topic: str, body: bytes, keys: SessionKeys, *earlier: bytes
    ) -> None:
        state = self._state
        request = Request(kind, topic, stream.sequence, stream.evidence, state.highest, state.inbox_next, body)
        envelope = seal_request(request, keys.id, keys.secret, self._randomness, self._padding)
        stream.pending = Pending(request, envelope, keys, earlier)

    def _deliver(self, stream: Stream) -> Steps[Settled]:
        """Send the pending envelope until an answer comes.

        The mail is still pending after :class:`ReplayRefused`, :class:`OutcomeUnknown` and what is only said.
        """
        state, delays = self._state, iter(self._delays)
        while True:
            pending = _pending(stream)
            request = pending.request
            try:
                untrusted = yield Deliver(pending.envelope)
                answer = open_answer(untrusted, pending.keys, pin_of(state), pending.id, pending.earlier)
                check_answer(answer, request, stream, state)
            except NO_ANSWER as error:
                yield self._wait(delays, request.topic, error)
                continue
            if answer.outcome is not Outcome.REFUSED:
                return (yield from self._accept(stream, answer))
            refusal = yield from self._refusal(answer)
            if self._outdated(refusal, request.highest):
                # The same mail, number and session: if the first envelope was executed after all, its reply comes.
                self._seal(
                    stream, request.kind, request.topic, request.body, pending.keys, *pending.earlier, pending.id
                )
                yield Save(durable=True)
                continue
            if not isinstance(refusal, ReplayRefused | RollbackDetected | ForkDetected):
                stream.pending = None
                yield Save(durable=False)
            raise refusal

    def _accept(self, stream: Stream, answer: Answer) -> Steps[Settled]:
        accept(self._state, stream, _pending(stream), answer.checkpoint)
        yield Save(durable=False)
        return Settled(answer.outcome, answer.payload, receipt_of(answer))

    def _refusal(self, answer: Answer) -> Steps[PmapError]:
        error = refusal_of(self._state, answer)
        if self._state.verdict is not None:
            yield Save(durable=True)
        return error

    def _outdated(self, refusal: PmapError, shown: Checkpoint | None) -> bool:
        return isinstance(refusal, ClientStale | EvidenceUnproven) and has_moved_on(self._state, shown)

    def _wait(self, delays: Iterator[float], topic: str, error: PmapError) -> Wait:
        """Raises :class:`OutcomeUnknown` when there are no more delays."""
        delay = next(delays, None)
        if delay is None:
            raise _open(topic, error) from error
        return Wait(delay)

    # --- recovering --------------------------------------------------------------------------------------

    def _recover(self, stream: Stream, dead: bytes | None) -> Steps[Settled | None]:
        """Settle the pending mail without sending it: by its reply, if the host has it, else by asking."""
        pending = _pending(stream)
        reply = yield from self._look_in_outbox(stream)
        if reply is not None:
            return (yield from self._accept(stream, reply))
        yield from self.ensure_session(dead)
        answer = yield from self._ask(stream)
        if answer.outcome is Outcome.FENCED:
            yield from self._accept(stream, answer)
            return None
        outcome, digest = decode_recovered(answer)
        if outcome is Outcome.HEARTBEAT:
            return (yield from self._accept(stream, answer))._replace(outcome=outcome, payload=None)
        reply = yield from self._look_in_outbox(stream, digest)
        # The answer's checkpoint is the reply's own: it makes no difference which of the two is accepted.
        receipt = (yield from self._accept(stream, answer)).receipt
        if reply is None:
            raise ReplyWithheld(
                f"mail {pending.request.sequence} on topic {pending.request.topic!r} was executed with commit"
                f" {receipt.commit}, but the host no longer delivers its reply"
            )
        return Settled(reply.outcome, reply.payload, receipt_of(reply))

    def _look_in_outbox(self, stream: Stream, digest: bytes | None = None) -> Steps[Answer | None]:
        """The pending mail's reply, if it waits at its session's address.

        With ``digest`` the mail is known to be executed, and so the host is asked until it answers.
        """
        pending, delays = _pending(stream), iter(self._delays)
        while True:
            try:
                untrusted_messages = yield PollMail(pending.keys.id)
                reply = find_reply(untrusted_messages, pending, pin_of(self._state), digest)
                if reply is not None:
                    check_checkpoint(reply, stream.evidence, self._state)
                return reply
            except NO_ANSWER as error:
                if digest is None:
                    return None
                yield self._wait(delays, pending.request.topic, error)

    def _ask(self, stream: Stream) -> Steps[Answer]:
        """Send RECOVER until the enclave says FENCED or RECOVERED. It may be repeated at will."""
        state, delays = self._state, iter(self._delays)
        mail = _pending(stream).request
        digest = mail_digest(mail.topic, mail.sequence, mail.body)
        while True:
            keys = state.session
            assert keys is not None
            yield from self._check_not_lost(stream, keys)
            request = Request(
                RequestKind.RECOVER,
                mail.topic,
                mail.sequence,
                stream.evidence,
                state.highest,
                state.inbox_next,
                digest,
            )
            envelope = seal_request(request, keys.id, keys.secret, self._randomness, self._padding)
            # What it shows and acknowledges must not be forgotten once the enclave has seen it.
            yield Save(durable=True)
            try:
                untrusted = yield Deliver(envelope)
                answer = open_answer(untrusted, keys, pin_of(state), request_id(envelope))
                check_answer(answer, request, stream, state)
            except SessionUnknown as error:
                yield self._wait(delays, mail.topic, error)
                yield Renew(keys.id)
                continue
            except (*NO_ANSWER, *ONLY_SAID) as error:
                yield self._wait(delays, mail.topic, error)
                continue
            if answer.outcome is not Outcome.REFUSED:
                return answer
            refusal = yield from self._refusal(answer)
            if self._outdated(refusal, request.highest):
                continue
            if isinstance(refusal, LimitExceeded):
                stream.pending = None  # there is no such stream, so nothing was executed on it
                yield Save(durable=False)
            raise refusal

    def _check_not_lost(self, stream: Stream, keys: SessionKeys) -> Steps[None]:
        """An enclave that keeps no state knows nothing of the epoch before. Raises :class:`OutcomeUnknown`."""
        pending = _pending(stream)
        if pin_of(self._state).persistent or pending.keys.epoch == keys.epoch:
            return
        stream.pending, stream.sequence = None, 0
        yield Save(durable=False)
        raise OutcomeUnknown(
            f"the enclave keeps no state and has restarted: nobody can tell whether the mail on topic"
            f" {pending.request.topic!r} was executed. It is not sent again"
        )


def _pending(stream: Stream) -> Pending:
    assert stream.pending is not None, "only a pending mail is settled"
    return stream.pending


def _open(topic: str, why: PmapError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"no answer to the mail on topic {topic!r}: {why}. Whether it was executed is open; it is settled before the next"
        " mail on its topic, or by recover()"
    )
