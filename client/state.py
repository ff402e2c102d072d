"""Everything that a client must remember to tell a fresh answer from an old one, and its strict encoding.

Losing it means enrolling anew; restoring an old copy of it is noticed by the enclave (``ClientStale``). It is kept
in one encrypted file (:mod:`client.state_file`), or in memory only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from client.reply import InboxMail
from wire.alarm import Alarm, Verdict
from wire.checkpoint import Checkpoint
from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES, KEY_BYTES, PUBLIC_KEY_BYTES, Randomness, Unauthentic
from wire.errors import CorruptedStore, ForkDetected, FreshnessError, Malformed, RollbackDetected
from wire.limits import MAX_STATE_BYTES
from wire.mail import MAX_COUNTER, SESSION_BYTES, Request, RequestKind, check_topic, open_request, request_id
from wire.record import EPOCH_BYTES, STORE_ID_BYTES

_NOTHING: Final = type(None)


@dataclass(frozen=True, slots=True)
class Pin:
    """Which store this is: its id (16 bytes), the key that signs its checkpoints, the digest of its voters (32 each),
    and whether it keeps state at all. From an invite, or from the first contact."""

    store_id: bytes
    checkpoint_key: bytes
    roster: bytes
    persistent: bool


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """An agreement with one epoch of the enclave: address (16 bytes), secret and epoch (32 each)."""

    id: bytes
    secret: bytes = field(repr=False)
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """A mail whose outcome is open: what was sent, how it was sealed, and under which session."""

    request: Request
    envelope: bytes = field(repr=False)
    keys: SessionKeys

    @property
    def id(self) -> bytes:
        """The mail's name, also after its session has ended: the request id of the envelope."""
        return request_id(self.envelope)


@dataclass(slots=True)
class Stream:
    """One topic: the next sequence number, the checkpoint of the last accepted reply, the mail that is under way."""

    sequence: int = 0
    evidence: Checkpoint | None = None
    pending: Pending | None = None

    @property
    def unused(self) -> bool:
        """Whether there is nothing to remember."""
        return self.sequence == 0 and self.evidence is None and self.pending is None


@dataclass(frozen=True, slots=True)
class StickyVerdict:
    """A rollback or fork that was proved to this client. ``alarm`` or ``checkpoint`` (which contradicts
    :attr:`ClientState.highest` at its size) is the proof."""

    verdict: Verdict
    text: str
    alarm: Alarm | None
    checkpoint: Checkpoint | None

    def error(self) -> FreshnessError:
        """The exception to raise."""
        error = RollbackDetected if self.verdict is Verdict.ROLLBACK else ForkDetected
        return error(self.text, self.alarm, self.checkpoint)


@dataclass(slots=True)
class ClientState:
    """See the module's docstring.

    ``seed``: of the client's Ed25519 key (32 bytes). ``hello_number``: the next one. ``highest``: the checkpoint of
    the largest size over all streams. ``inbox_next``: the number of the next inbox mail to accept;
    ``inbox_announced``: how many the enclave has said there are; ``inbox``: those that the user has not taken yet.
    """

    seed: bytes = field(repr=False)
    hello_number: int = 0
    pin: Pin | None = None
    session: SessionKeys | None = None
    streams: dict[str, Stream] = field(default_factory=dict)
    highest: Checkpoint | None = None
    inbox_next: int = 0
    inbox_announced: int = 0
    inbox: list[InboxMail] = field(default_factory=list)
    verdict: StickyVerdict | None = None

    @classmethod
    def new(cls, randomness: Randomness) -> ClientState:
        """A client that nobody knows yet."""
        return cls(randomness(KEY_BYTES))

    def stream(self, topic: str) -> Stream:
        """The stream of this topic; made if it is new."""
        return self.streams.setdefault(topic, Stream())

    def encode(self) -> bytes:
        """Canonical bytes."""
        pin, session, verdict = self.pin, self.session, self.verdict
        return pack(
            [
                self.seed,
                self.hello_number,
                None if pin is None else [pin.store_id, pin.checkpoint_key, pin.roster, pin.persistent],
                None if session is None else _encode_keys(session),
                [_encode_stream(topic, stream) for topic, stream in sorted(self.streams.items()) if not stream.unused],
                _encode_checkpoint(self.highest),
                self.inbox_next,
                self.inbox_announced,
                [[mail.number, mail.body] for mail in self.inbox],
                None if verdict is None else _encode_verdict(verdict),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> ClientState:
        """Undo :meth:`encode`. ``data`` was authenticated. Raises :class:`CorruptedStore`."""
        try:
            return _decode(data)
        except (Malformed, Unauthentic) as error:
            raise CorruptedStore(f"the client's state is authentic but makes no sense: {error}") from error


# --- encoding ------------------------------------------------------------------------------------------


def _encode_checkpoint(checkpoint: Checkpoint | None) -> bytes | None:
    return None if checkpoint is None else checkpoint.encode()


def _encode_keys(keys: SessionKeys) -> list[Any]:
    return [keys.id, keys.secret, keys.epoch]


def _encode_stream(topic: str, stream: Stream) -> list[Any]:
    pending = stream.pending
    # What was sealed can be read from the envelope, so it is not written a second time.
    kept = None if pending is None else [pending.envelope, _encode_keys(pending.keys)]
    return [topic, stream.sequence, _encode_checkpoint(stream.evidence), kept]


def _encode_verdict(verdict: StickyVerdict) -> list[Any]:
    alarm = None if verdict.alarm is None else verdict.alarm.encode()
    return [int(verdict.verdict), verdict.text, alarm, _encode_checkpoint(verdict.checkpoint)]


# --- decoding ------------------------------------------------------------------------------------------


def _decode(data: bytes) -> ClientState:
    # Our own writing, authenticated: no number of arrays in it is too large.
    value = unpack(data, MAX_STATE_BYTES, max_arrays=MAX_STATE_BYTES)
    fields = expect(value, bytes, int, object, object, list, object, int, int, list, object)
    seed, hello_number, pin, session, streams, highest, inbox_next, inbox_announced, inbox, verdict = fields
    state = ClientState(_exactly(seed, KEY_BYTES), _counter(hello_number))
    state.inbox_next, state.inbox_announced = _counter(inbox_next), _counter(inbox_announced)
    state.inbox = [InboxMail(*expect(mail, int, bytes)) for mail in inbox]
    if pin is None:
        if session is not None or streams or highest is not None or verdict is not None:
            raise Malformed("evidence without a store that it is about")
        return state
    state.pin = _decode_pin(pin)
    store_id = state.pin.store_id
    state.session = None if session is None else _decode_keys(session)
    state.highest = _decode_checkpoint(store_id, highest)
    for stream in streams:
        _decode_stream(state, store_id, stream)
    state.verdict = None if verdict is None else _decode_verdict(store_id, verdict)
    return state


def _decode_pin(fields: Any) -> Pin:
    store_id, key, roster, persistent = expect(fields, bytes, bytes, bytes, bool)
    return Pin(
        _exactly(store_id, STORE_ID_BYTES), _exactly(key, PUBLIC_KEY_BYTES), _exactly(roster, HASH_BYTES), persistent
    )


def _decode_keys(fields: Any) -> SessionKeys:
    session, secret, epoch = expect(fields, bytes, bytes, bytes)
    return SessionKeys(_exactly(session, SESSION_BYTES), _exactly(secret, KEY_BYTES), _exactly(epoch, EPOCH_BYTES))


def _decode_checkpoint(store_id: bytes, field: Any) -> Checkpoint | None:
    if field is None:
        return None
    if type(field) is not bytes:
        raise Malformed("a checkpoint is bytes")
    return Checkpoint.decode(store_id, field)


def _decode_stream(state: ClientState, store_id: bytes, fields: Any) -> None:
    topic, sequence, evidence, kept = expect(fields, str, int, object, object)
    check_topic(topic)
    if topic in state.streams:
        raise Malformed("a topic stands there twice")
    stream = Stream(_counter(sequence), _decode_checkpoint(store_id, evidence))
    if kept is not None:
        envelope, keys = expect(kept, bytes, list)
        session = _decode_keys(keys)
        request = open_request(envelope, session.secret)
        if request.kind is RequestKind.RECOVER or (request.topic, request.sequence) != (topic, stream.sequence):
            raise Malformed("a pending mail that belongs to another place")
        stream.pending = Pending(request, envelope, session)
    if stream.unused:
        raise Malformed("a topic about which there is nothing to remember")
    state.streams[topic] = stream


def _decode_verdict(store_id: bytes, fields: Any) -> StickyVerdict:
    number, text, alarm, checkpoint = expect(fields, int, str, object, object)
    try:
        verdict = Verdict(number)
    except ValueError as error:
        raise Malformed(f"no verdict has the number {number}") from error
    if alarm is not None and type(alarm) is not bytes:
        raise Malformed("an alarm is bytes")
    decoded = None if alarm is None else Alarm.decode(store_id, alarm)
    return StickyVerdict(verdict, text, decoded, _decode_checkpoint(store_id, checkpoint))


def _exactly(value: Any, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise Malformed(f"a field that should be {length} bytes long")
    return value


def _counter(value: int) -> int:
    if not 0 <= value <= MAX_COUNTER:
        raise Malformed("a counter out of range")
    return value
