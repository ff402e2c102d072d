"""What became of a mail? Its reply may still wait at the host; else the enclave is asked, with RECOVER. No I/O.

The enclave tells, or makes sure that the mail is never executed under its number. Asking changes nothing else, so it
may be repeated at will.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
from client.handshake import NO_ANSWER, ONLY_SAID, Handshake
from client.reply import Receipt
from client.state import ClientState, Pending, SessionKeys, Stream
from wire.checkpoint import encode_evidence
from wire.crypto import Randomness
from wire.errors import (
    LimitExceeded,
    OutcomeUnknown,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
)
from wire.mail import Outcome, Request, RequestKind, request_id, seal_request
from wire.mail import Reply as Answer
from wire.padding import Padding


class Settled(NamedTuple):
    """A processed mail: EXECUTED, HANDLER_FAILED or HEARTBEAT, the payload, and the receipt."""

    outcome: Outcome
    payload: bytes | None
    receipt: Receipt


class Recovery:
    """Settles pending mails without sending them. Work on one stream must not overlap."""

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

    def recover(self, stream: Stream, dead: bytes | None) -> Steps[Settled | None]:
        """Settle the pending mail without sending it: by its reply, if the host has it, else by asking."""
        state, pending = self._state, pending_of(stream)
        if not superseded(state, pending.keys):
            reply = yield from self._look_in_outbox(stream)
            if reply is not None and not superseded(state, pending.keys):
                return (yield from settle_by(state, stream, reply))
        yield from self._handshake.ensure_session(dead)
        while True:
            answer = yield from self._ask(stream)
            asked = state.session
            if answer.outcome is Outcome.FENCED:
                yield from settle_by(state, stream, answer)
                return None
            outcome, digest = decode_recovered(answer)
            if outcome is Outcome.HEARTBEAT:
                return (yield from settle_by(state, stream, answer))._replace(outcome=outcome, payload=None)
            reply = yield from self._look_in_outbox(stream, digest)
            if state.session is asked:
                break
        # The answer's checkpoint is the reply's own: it makes no difference which of the two is accepted.
        receipt = (yield from settle_by(state, stream, answer)).receipt
        if reply is None:
            raise ReplyWithheld(
                f"mail {pending.request.sequence} on topic {pending.request.topic!r} was executed with commit"
                f" {receipt.commit}, but the host no longer delivers its reply"
            )
        return Settled(reply.outcome, reply.payload, receipt)

    def _look_in_outbox(self, stream: Stream, digest: bytes | None = None) -> Steps[Answer | None]:
        """The pending mail's reply, if it waits at its session's address.

        With ``digest`` the mail is known to be executed, and so the host is asked until it answers.
        """
        pending, delays = pending_of(stream), iter(self._delays)
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
                yield next_wait(delays, pending.request.topic, error)

    def _ask(self, stream: Stream) -> Steps[Answer]:
        """Send RECOVER until the enclave says FENCED or RECOVERED. It may be repeated at will."""
        state, delays = self._state, iter(self._delays)
        pending = pending_of(stream)
        mail = pending.request
        while True:
            keys = state.session
            assert keys is not None
            yield from self._check_not_lost(stream, keys)
            request = Request(
                RequestKind.RECOVER,
                mail.topic,
                mail.sequence,
                encode_evidence(stream.evidence),
                encode_evidence(state.highest),
                state.inbox_next,
                pending.id,
            )
            envelope = seal_request(request, keys.id, keys.secret, self._randomness, self._padding)
            # What it shows and acknowledges must not be forgotten once the enclave has seen it.
            yield Save(durable=True)
            try:
                untrusted = yield Deliver(envelope)
                answer = open_answer(untrusted, keys, pin_of(state), request_id(envelope))
                if superseded(state, keys):
                    continue
                check_answer(answer, request, stream, state)
            except SessionUnknown as error:
                yield next_wait(delays, mail.topic, error)
                yield Renew(keys.id)
                continue
            except (*NO_ANSWER, *ONLY_SAID) as error:
                yield next_wait(delays, mail.topic, error)
                continue
            if answer.outcome is not Outcome.REFUSED:
                return answer
            refusal = yield from refusal_by(state, answer)
            if isinstance(refusal, LimitExceeded):
                stream.pending = None  # there is no such stream, so nothing was executed on it
                yield Save(durable=False)
            raise refusal

    def _check_not_lost(self, stream: Stream, keys: SessionKeys) -> Steps[None]:
        """An enclave that keeps no state knows nothing of the epoch before. Raises :class:`OutcomeUnknown`."""
        pending = pending_of(stream)
        if pin_of(self._state).persistent or pending.keys.epoch == keys.epoch:
            return
        stream.pending, stream.sequence = None, 0
        yield Save(durable=False)
        raise OutcomeUnknown(
            f"the enclave keeps no state and has restarted: nobody can tell whether the mail on topic"
            f" {pending.request.topic!r} was executed. It is not sent again"
        )


# --- steps that delivering takes as well ---------------------------------------------------------------


def pending_of(stream: Stream) -> Pending:
    """The mail that is to be settled."""
    assert stream.pending is not None, "only a pending mail is settled"
    return stream.pending


def superseded(state: ClientState, keys: SessionKeys) -> bool:
    """Whether a newer session is open than the one of these keys.

    The older session can be that of another fork. What it says is not to be mixed with what the newer one says: the
    newer enclave itself has to tell what became of the mail: no fork joins another unseen. An enclave that keeps no
    state has no forks, and nothing to tell.
    """
    return state.session is not None and state.session.id != keys.id and pin_of(state).persistent


def settle_by(state: ClientState, stream: Stream, answer: Answer) -> Steps[Settled]:
    """The stream's pending mail is settled by an answer that was checked."""
    accept(state, stream, pending_of(stream), answer.checkpoint)
    yield Save(durable=False)
    return Settled(answer.outcome, answer.payload, receipt_of(answer))


def refusal_by(state: ClientState, answer: Answer) -> Steps[PmapError]:
    """The error that a refusal says; a proved rollback or fork is remembered."""
    error = refusal_of(state, answer)
    if state.verdict is not None:
        yield Save(durable=True)
    return error


def next_wait(delays: Iterator[float], topic: str, why: PmapError) -> Wait:
    """Raises :class:`OutcomeUnknown` when there are no more delays."""
    delay = next(delays, None)
    if delay is None:
        raise outcome_unknown(topic, why) from why
    return Wait(delay)


def outcome_unknown(topic: str, why: PmapError) -> OutcomeUnknown:
    """No answer came to the pending mail of a topic."""
    return OutcomeUnknown(
        f"no answer to the mail on topic {topic!r}: {why}. Whether it was executed is open; it is settled before the"
        " next mail on its topic, or by recover()"
    )
