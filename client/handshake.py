"""Getting to a session: the attestation document, what was pinned of the store, and the hello. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from client.acceptance import accept_welcome, check_checkpoint, open_answer, pin_of, raise_highest, refusal_of
from client.constraint import Constraint
from client.effects import Deliver, FetchAttestation, Renew, Save, Steps, TellRestart, Wait
from client.endorsements import NO_ENDORSEMENTS, EndorsementsFrom, read_endorsements
from client.identity import Identity
from client.state import ClientState, Pin, SessionKeys
from client.verification import verify_attestation
from wire.attestation import Attestation
from wire.checkpoint import Checkpoint, verify_checkpoint
from wire.crypto import KEY_BYTES, Randomness, SigningKey
from wire.errors import (
    AttestationError,
    ClientStale,
    EvidenceInvalid,
    EvidenceUnproven,
    HostUnavailable,
    MailTooLarge,
    Malformed,
    ReplayRefused,
    ReplyWithheld,
    SessionUnknown,
    StoreReplaced,
)
from wire.mail import SESSION_BYTES, Hello, Outcome, Reply, request_id, seal_hello

NO_ANSWER = (HostUnavailable, Malformed, ReplayRefused)
"""What shows that the host gave no answer, or one that is none (:mod:`client.acceptance`): trying again may help."""
ONLY_SAID = (SessionUnknown, MailTooLarge, ReplyWithheld)
"""What a host says instead of an answer. It may be so; no enclave vouches for it."""


class Handshake:
    """``identity`` and ``epoch`` are those of the last attestation that was verified."""

    def __init__(
        self,
        state: ClientState,
        constraint: Constraint,
        delays: Sequence[float],
        randomness: Randomness,
        endorsements: EndorsementsFrom = NO_ENDORSEMENTS,
    ) -> None:
        self._state = state
        self._constraint = constraint
        self.delays = delays
        self._randomness = randomness
        self._endorsements = endorsements
        self._verified: tuple[bytes, Attestation] | None = None
        self._unused: Attestation | None = None
        self.identity: Identity | None = None
        self.epoch: bytes | None = None

    def attest(self) -> Steps[None]:
        """Fetch the attestation and check it, unless it is the one that was checked last.

        Raises :class:`AttestationError`, :class:`StoreReplaced` and :class:`HostUnavailable`.
        """
        delays = iter(self.delays)
        while True:
            try:
                untrusted = yield FetchAttestation()
                attestation = self._check(untrusted)
                break
            except (HostUnavailable, Malformed) as error:
                delay = next(delays, None)
                if delay is None:
                    raise HostUnavailable(f"no attestation from the host: {error}") from error
                yield Wait(delay)
        self._verified = (untrusted, attestation)
        self._unused = attestation
        self.epoch = attestation.epoch

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
        session, epoch = self._state.session, self.epoch
        return session is not None and epoch is not None and session.epoch != epoch

    def renew(self, dead: bytes | None) -> Steps[None]:
        """Open a session, unless another one than ``dead`` is open. To be run by one at a time.

        Raises what :meth:`attest` raises, and what the enclave refuses a hello with.
        """
        session = self._state.session
        if session is not None and session.id != dead:
            return
        delays = iter(self.delays)
        while True:
            if self._unused is None:
                yield from self.attest()
            attestation, self._unused = self._unused, None
            assert attestation is not None
            try:
                if (yield from self._hello(attestation)):
                    return
            except (*NO_ANSWER, *ONLY_SAID) as error:
                delay = next(delays, None)
                if delay is None:
                    # SessionUnknown: the enclave restarts all the time, or the host shows an old attestation.
                    raise HostUnavailable(f"no session with the enclave could be opened: {error}") from error
                yield Wait(delay)

    def _check(self, untrusted: bytes) -> Attestation:
        if self._verified is not None and self._verified[0] == untrusted:
            return self._verified[1]
        attestation = Attestation.decode(untrusted)
        self.identity = verify_attestation(
            attestation, self._constraint, endorsements=read_endorsements(self._endorsements)
        )
        self._check_pin(attestation)
        return attestation

    def _check_pin(self, attestation: Attestation) -> None:
        """Is it still the same store, under the same rules? At first contact: remember it."""
        pin = self._state.pin
        seen = Pin(attestation.store_id, attestation.checkpoint_key, attestation.roster, attestation.persistent)
        if pin is None:
            self._state.pin = seen
            return
        if seen.store_id != pin.store_id:
            raise StoreReplaced(
                f"another store answers here: {_named(seen)} in the place of {_named(pin)};"
                " what this client knows is about the other one"
            )
        if seen.persistent is not pin.persistent:
            raise AttestationError("the enclave used to keep state and no longer does, or the other way round")
        if seen.roster != pin.roster:
            raise AttestationError(
                'the voters behind "stable" are not those that this client knows; an invite from somebody'
                " who trusts the new ones would make them known"
            )
        if not pin.persistent:
            # Such an enclave has a new key in every epoch, and signs nothing with it.
            self._state.pin = seen
        elif seen.checkpoint_key != pin.checkpoint_key:
            raise AttestationError("the store has its old name but signs with another key")

    def _hello(self, attestation: Attestation) -> Steps[bool]:
        """Say hello. False: with evidence that another stream has outdated meanwhile; say it again."""
        state = self._state
        key = SigningKey(state.seed)
        keys = SessionKeys(self._randomness(SESSION_BYTES), self._randomness(KEY_BYTES), attestation.epoch)
        number, shown = state.hello_number, state.highest
        state.hello_number += 1
        hello = Hello(key.public, keys.secret, number, shown)
        envelope = seal_hello(hello, key, attestation.mail_key, attestation.store_id, attestation.epoch, keys.id)
        yield Save(durable=True)
        untrusted = yield Deliver(envelope)
        reply = open_answer(untrusted, keys, pin_of(state), request_id(envelope))
        if reply.outcome is Outcome.REFUSED:
            error = refusal_of(state, reply)
            if state.verdict is not None:
                yield Save(durable=True)
            # Mails on their way in the last session may have shown newer evidence to the enclave before this arrived.
            if isinstance(error, ClientStale | EvidenceUnproven) and state.highest != shown:
                return False
            raise error
        if not self._accept_welcome(reply, keys, shown):
            return False
        before, state.session = state.session, keys
        yield Save(durable=False)
        if before is not None and before.epoch != keys.epoch:
            yield TellRestart()
        return True

    def _accept_welcome(self, reply: Reply, keys: SessionKeys, shown: Checkpoint | None) -> bool:
        """False, and nothing is taken, where the welcome says nothing of the highest evidence (R-67)."""
        state = self._state
        pin = pin_of(state)
        if reply.outcome is not Outcome.WELCOME:
            raise Malformed("the enclave answered a hello with something else than a welcome")
        check_checkpoint(reply, shown, state)
        if reply.checkpoint is not None:
            try:
                verify_checkpoint(reply.checkpoint, pin.checkpoint_key)
            except EvidenceInvalid as error:
                raise AttestationError("the enclave signs with another key than the one that it attests") from error
        if state.highest != shown:
            # The last session gave newer evidence while this hello was on its way. It may be of another fork than this
            # enclave, which has not seen it, and a longer welcome would take its place.
            return False
        if not pin.persistent and state.session is not None and state.session.epoch != keys.epoch:
            # Nothing of the last epoch is known here: all numbers start again.
            state.inbox_next = state.inbox_announced = 0
            for stream in state.streams.values():
                if stream.pending is None:
                    stream.sequence = 0
        accept_welcome(state, reply)
        raise_highest(state, reply.checkpoint)
        return True


def _named(pin: Pin) -> str:
    return f"store {pin.store_id.hex()}" if pin.persistent else "an enclave that keeps no state"
