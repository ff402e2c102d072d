"""A mail's way to the enclave and its reply's way back, without I/O.

The envelope is written to the state, durably, before it leaves; the same bytes are sent again while no answer comes
(the enclave executes them once); what answers it must pass :mod:`client.acceptance`. When the enclave no longer
knows the session, :mod:`client.recovery` finds out what became of the mail; only if that is nothing, it is sent anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from client.acceptance import check_answer, open_answer, pin_of
from client.effects import Deliver, Save, Steps
from client.handshake import NO_ANSWER, Handshake
from client.recovery import (
    Recovery,
    Settled,
    next_wait,
    outcome_unknown,
    pending_of,
    refusal_by,
    settle_by,
    superseded,
)
from client.state import ClientState, Pending, SessionKeys, Stream
from wire.checkpoint import encode_evidence
from wire.crypto import Randomness
from wire.errors import (
    EvidenceUnproven,
    ForkDetected,
    HostUnavailable,
    MailTooLarge,
    OutcomeUnknown,
    PmapError,
    ReplayRefused,
    ReplyWithheld,
    RollbackDetected,
    SessionUnknown,
    StoreError,
)
from wire.mail import Outcome, Request, RequestKind, seal_request
from wire.padding import Padding

_MOST_SENDINGS: Final = 8
"""So often a mail is sent anew because the enclave restarted in between."""


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
        self._recovery = Recovery(state, handshake, delays, randomness, padding)

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
            yield from self._handshake.ensure_session()
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
        topic = pending_of(stream).request.topic
        try:
            return (yield from self._settle(stream, resend))
        except (HostUnavailable, StoreError) as error:
            raise outcome_unknown(topic, error) from error

    def _settle(self, stream: Stream, resend: bool) -> Steps[Settled | None]:
        session, dead, too_large = self._state.session, None, None
        if resend and session is not None and session.id == pending_of(stream).keys.id:
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
        settled = yield from self._recovery.recover(stream, dead)
        if settled is None and too_large is not None:
            raise too_large
        return settled

    # --- delivering --------------------------------------------------------------------------------------

    def _seal(self, stream: Stream, kind: RequestKind, topic: str, body: bytes, keys: SessionKeys) -> None:
        state = self._state
        shown = encode_evidence(stream.evidence), encode_evidence(state.highest)
        request = Request(kind, topic, stream.sequence, *shown, state.inbox_next, body)
        envelope = seal_request(request, keys.id, keys.secret, self._randomness, self._padding)
        stream.pending = Pending(request, envelope, keys)

    def _deliver(self, stream: Stream) -> Steps[Settled]:
        """Send the pending envelope until an answer comes.

        The mail is still pending after :class:`ReplayRefused`, :class:`OutcomeUnknown` and what is only said.
        """
        state, pending, delays = self._state, pending_of(stream), iter(self._delays)
        while True:
            try:
                untrusted = yield Deliver(pending.envelope)
                answer = open_answer(untrusted, pending.keys, pin_of(state), pending.id)
                check_answer(answer, pending.request, stream, state)
            except NO_ANSWER as error:
                yield next_wait(delays, pending.request.topic, error)
                continue
            if superseded(state, pending.keys):
                raise SessionUnknown("a newer session was opened meanwhile: the enclave behind it has to tell")
            if answer.outcome is not Outcome.REFUSED:
                return (yield from settle_by(state, stream, answer))
            refusal = yield from refusal_by(state, answer)
            # Not after EvidenceUnproven: with the host's proof, the same bytes can be executed yet.
            if not isinstance(refusal, ReplayRefused | RollbackDetected | ForkDetected | EvidenceUnproven):
                stream.pending = None
                yield Save(durable=False)
            raise refusal
