"""Every decoder of bytes from somebody else: what it may raise, and genuine bytes to begin from.

A decoder returns or raises one of its documented errors; anything else is a fault. So is memory that grows out of
proportion to the input.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from attacked_enclaves import Ledger
from core_host import TEE, CoreHost
from fuzz.attested_targets import attested_targets
from fuzz.target import Target
from raw_client import RawClient

from client.constraint import Constraint
from client.http_interface import check_status, decode_list
from client.invite import Invite
from client.state import ClientState, Pin, SessionKeys
from client.state_file import StateFile
from pmap.core import EnclaveCore
from pmap.keyring import Keyring
from pmap.replay import Replay
from wire.alarm import Alarm, Verdict, sign_alarm, verify_alarm
from wire.attestation import Attestation
from wire.boundary import Answer, AnswerKind, Delivery, Incoming, IncomingKind, OutboxMessage, ProofWanted, StoredCommit
from wire.checkpoint import Checkpoint, parse_note, sign_checkpoint
from wire.codec import pack, unpack
from wire.crypto import SigningKey, Unauthentic, seal_once
from wire.errors import (
    CorruptedStore,
    EvidenceInvalid,
    HostUnavailable,
    InvalidInput,
    LimitExceeded,
    MailTooLarge,
    Malformed,
    PmapError,
    ProofInvalid,
    ReplyWithheld,
    RollbackDetected,
    SessionUnknown,
    StoreUnavailable,
    UnsupportedVersion,
    WrongKey,
)
from wire.frames import encode_frame, read_command, read_effect
from wire.hpke import Kem, MailKey
from wire.kv import Delete, Get, Put, Scan, Size, Swap, decode_operations, encode_operations
from wire.kv_results import decode_results
from wire.mail import EnvelopeKind, Reply, Request, RequestKind, envelope_kind, open_hello, open_reply, open_request
from wire.mail import Outcome as MailOutcome
from wire.merkle import Frontier, leaf_hash, verify_consistency, verify_inclusion
from wire.messages import Deliver, Delivered, End, Learn, Learned, Ready, Records, Refused, Start, Stop
from wire.padding import pad
from wire.record import decode_header
from wire.refusal import decode_refusal, encode_refusal
from wire.simulated import SimulatedEvidence

KEY = bytes(range(32))
SIGNER = SigningKey(KEY)
STORE_ID = bytes(16)
SESSION = b"s" * 16
CORRUPT = (CorruptedStore, UnsupportedVersion)


class _Reader:
    """A stream of these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.asked = 0

    def __call__(self, length: int) -> bytes:
        self.asked = max(self.asked, length)
        taken, self._data = self._data[:length], self._data[length:]
        return taken


def _frames(read: Callable[[Any], object]) -> Callable[[bytes], object]:
    def decode(data: bytes) -> None:
        reader = _Reader(data)
        while read(reader) is not None:
            pass

    return decode


def _world() -> tuple[CoreHost, RawClient, list[bytes], list[bytes]]:
    """An enclave with a few commits, a client, and the envelopes of both."""
    host, client = CoreHost.found(Ledger), RawClient()
    sent: list[bytes] = []
    answered: list[bytes] = []

    def deliver(envelope: bytes) -> bytes:
        sent.append(envelope)
        answered.append(host.deliver(envelope))
        return answered[-1]

    client.hello(host.document, deliver)
    for body in (b"put x 1", b"get x", f"mail {client.name} hello".encode(), b"spoil x"):
        client.send(body, deliver)
    return host, client, sent, answered


@cache
def targets() -> tuple[Target, ...]:
    """All of them, made once."""
    host, client, sent, answered = _world()
    core, keyring = host.core, Keyring.unseal(TEE.sealing_key(), host.keyring)
    highest = client.highest
    assert highest is not None
    stored = [_message_targets(highest), _store_targets(host, keyring), _evidence_targets(highest)]
    return (
        *_stream_targets(host),
        *_core_targets(core, sent, answered),
        *sum(stored, ()),
        *_client_targets(),
        *attested_targets(),
    )


def _stream_targets(host: CoreHost) -> tuple[Target, ...]:
    def frames(*messages: Any) -> bytes:
        return b"".join(part for message in messages for part in encode_frame(message))

    delivery = Delivery(
        3,
        StoredCommit(3, b"record", bytes(32), 2),
        [OutboxMessage(0, SESSION, b"message")],
        [(1, 0)],
        [Answer(0, AnswerKind.BOXED, 3, 0), Answer(1, AnswerKind.DIRECT, data=b"reply")],
        [ProofWanted(0, 2)],
    )
    commands = (
        frames(Start(host.keyring), Records(host.records[:1]), End(), Stop()),
        frames(Start(None), Deliver([Incoming(IncomingKind.MAIL, b"mail"), Incoming(IncomingKind.CALL, b"call")])),
        frames(Learn(1, bytes(32), 2, [bytes(32)])),
    )
    effects = (
        frames(Ready(host.document, 1, host.keyring, delivery)),
        frames(Delivered(True, delivery), Learned(None), Learned("why"), Refused("WrongKey", "text")),
    )
    return (
        Target("frames of the host", _frames(read_command), (Malformed,), commands),
        Target("frames of the enclave", _frames(read_effect), (Malformed,), effects),
    )


def _core_targets(core: EnclaveCore, sent: list[bytes], answered: list[bytes]) -> tuple[Target, ...]:
    def deliver(data: bytes) -> object:
        # A list: the deliveries are made as they are asked for.
        return list(core.deliver([Incoming(IncomingKind.MAIL, data), Incoming(IncomingKind.CALL, data)]))

    return (
        Target("anything to the enclave", deliver, (), tuple(sent)),
        Target("kind of an envelope", envelope_kind, (Malformed,), tuple(sent + answered)),
    )


def _message_targets(highest: Checkpoint) -> tuple[Target, ...]:
    """What is inside the encryption: the samples are plaintexts, sealed as a liar with a session would seal them."""
    evidence = highest.encode()
    mail_key = MailKey(Kem.X25519, lambda n: bytes(range(n)))

    def sealed(kind: EnvelopeKind, label: bytes, plaintext: bytes) -> bytes:
        header = bytes([1, kind]) + SESSION
        return header + seal_once(KEY, label, plaintext, header, bytes)

    def request(plaintext: bytes) -> object:
        return open_request(sealed(EnvelopeKind.MAIL, b"mail", plaintext), KEY)

    def reply(plaintext: bytes) -> object:
        return open_reply(sealed(EnvelopeKind.REPLY, b"reply", plaintext), KEY, STORE_ID)

    def hello(plaintext: bytes) -> object:
        header = bytes([1, EnvelopeKind.HELLO]) + bytes(32) + SESSION
        return open_hello(
            header + mail_key.public.seal(plaintext, b"pmap/1 hello" + STORE_ID + header), mail_key, STORE_ID
        )

    requests = [
        pad(pack([0, "topic", 3, evidence, evidence, 1, b"body"])),
        pad(pack([1, "topic", 3, b"", evidence, 0, bytes(32)])),
    ]
    replies = [
        pad(pack([1, "topic", 3, bytes(32), evidence, 5, b"payload"])),
        pad(pack([5, "topic", 3, bytes(32), b"", 0, None])),
    ]
    hellos = [pad(pack([bytes(32), bytes(32), 0, evidence, bytes(64)]))]
    refusal = encode_refusal(RollbackDetected("text"), highest)
    alarmed = RollbackDetected("text", sign_alarm(SIGNER, Verdict.ROLLBACK, *_contradiction(), bytes(32)))
    assert Request and Reply and RequestKind and MailOutcome  # the formats of these
    return (
        Target("content of a mail", request, (Malformed,), tuple(requests)),
        Target("content of a reply", reply, (Malformed,), tuple(replies)),
        Target("content of a hello", hello, (Malformed, Unauthentic), tuple(hellos)),
        Target(
            "refusal",
            lambda data: decode_refusal(data, STORE_ID),
            (Malformed,),
            (refusal, encode_refusal(alarmed, _contradiction()[0])),
        ),
        Target(
            "msgpack", lambda data: unpack(data, 1 << 20), (Malformed,), (pack([1, "a", b"b", None, True]), refusal)
        ),
    )


def _store_targets(host: CoreHost, keyring: Keyring) -> tuple[Target, ...]:
    def replay(data: bytes) -> object:
        restarted = Replay(keyring)
        restarted.feed([data])
        return restarted.n

    return (
        Target("record's header", decode_header, CORRUPT, tuple(host.records[-2:])),
        Target("record", replay, CORRUPT, tuple(host.records[:2])),
        Target("keyring", lambda data: Keyring.unseal(TEE.sealing_key(), data), (*CORRUPT, WrongKey), (host.keyring,)),
        Target("frontier", lambda data: Frontier.decode(5, data), (Malformed,), (_frontier(5).encode(),)),
    )


def _frontier(leaves: int) -> Frontier:
    frontier = Frontier()
    for number in range(leaves):
        frontier.append(leaf_hash(bytes([number])))
    return frontier


def _contradiction() -> tuple[Checkpoint, Checkpoint]:
    return sign_checkpoint(SIGNER, STORE_ID, 3, bytes(32)), sign_checkpoint(SIGNER, STORE_ID, 7, b"\x01" * 32)


def _evidence_targets(highest: Checkpoint) -> tuple[Target, ...]:
    enclave, claimed = _contradiction()
    alarm = sign_alarm(SIGNER, Verdict.ROLLBACK, enclave, claimed, bytes(32)).encode()
    note = claimed.note(SIGNER.public).encode()

    def proof(data: bytes) -> None:
        first, second, hashes = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
        path = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
        verify_consistency(first, bytes(32), second, bytes(32), path)

    def inclusion(data: bytes) -> None:
        index, size, hashes = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
        path = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
        verify_inclusion(index, size, bytes(32), path, bytes(32))

    document = CoreHost.found(Ledger).document
    evidence = Attestation.decode(document).evidence
    return (
        Target("checkpoint", lambda data: Checkpoint.decode(STORE_ID, data), (Malformed,), (highest.encode(),)),
        Target(
            "note",
            lambda data: parse_note(data.decode("utf-8", "surrogateescape"), SIGNER.public),
            (Malformed, EvidenceInvalid),
            (note,),
        ),
        Target(
            "alarm",
            lambda data: verify_alarm(Alarm.decode(STORE_ID, data), SIGNER.public),
            (Malformed, EvidenceInvalid),
            (alarm,),
        ),
        Target("attestation", Attestation.decode, (Malformed,), (document,)),
        Target("simulated evidence", SimulatedEvidence.decode, (Malformed,), (evidence,)),
        Target("consistency proof", proof, (ProofInvalid,), (bytes([3, 7]) + bytes(96),)),
        Target("inclusion proof", inclusion, (ProofInvalid,), (bytes([3, 7]) + bytes(96),)),
    )


def _client_targets() -> tuple[Target, ...]:
    operations = [Get("k"), Put("k", b"v"), Delete("k"), Swap("k", None, b"v"), Scan("", None, 5, 100), Size()]
    results = pack([b"v", None, True, True, [["k", b"v"], None], [1, 2, 3]])
    state = ClientState(KEY, 3, Pin(STORE_ID, SIGNER.public, bytes(32), True), SessionKeys(SESSION, KEY, bytes(32)))
    state.highest = _contradiction()[1]
    state.stream("topic").sequence = 4
    invite = Invite.of(state).encode().encode()
    error = b'{"error": "session_unknown", "message": "say hello again"}'
    http_errors = (SessionUnknown, MailTooLarge, ReplyWithheld, Malformed, HostUnavailable)

    def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: parse(data.decode("utf-8", "surrogateescape"))

    return (
        Target("operations", decode_operations, (Malformed, LimitExceeded), (encode_operations(operations),)),
        Target("results", lambda data: decode_results(data, operations), (Malformed,), (results,)),
        Target("client state", ClientState.decode, (CorruptedStore,), (state.encode(),)),
        Target("state file", _read_state_file, (*CORRUPT, WrongKey, StoreUnavailable), (_state_file(state),)),
        Target("invite", text(Invite.parse), (InvalidInput,), (invite,)),
        Target("constraint", text(Constraint.parse), (InvalidInput,), (b"S:" + b"0" * 64 + b" PROD:1 SEC:STALE",)),
        Target("answer to a poll", lambda data: decode_list(data, 1 << 20), (Malformed,), (pack([b"a", b"b"]),)),
        Target("HTTP error", lambda data: check_status(409, data), http_errors, (error,)),
        Target("HTTP error of a proxy", lambda data: check_status(502, data), http_errors, (b"<html>",)),
    )


def _state_file(state: ClientState) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        file = StateFile.open(path, KEY)
        file.write(state.encode(), durable=True)
        file.close()
        return path.read_bytes()


def _read_state_file(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        path.write_bytes(data)
        path.chmod(0o600)
        file = StateFile.open(path, KEY)
        try:
            return file.read()
        finally:
            file.close()


# --- damage --------------------------------------------------------------------------------------------------

_NASTY = (
    b"",
    b"\x00",
    b"\xff" * 8,
    b"\x90",
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\x91" * 64,
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xd3" + b"\xff" * 8,
    b"\xcb" + b"\x7f\xf8" + bytes(6),
    b"\xc9\x00\x00\x00\x01\x01x",
    b"\xa4\xff\xfe\xfd\xfc",
    b"\x80",
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some change of these bytes, small or large."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        match rng.randrange(7):
            case 0 if data:
                at = rng.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + rng.randbytes(rng.randrange(9)) + data[at:]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + rng.choice(_NASTY) + data[at:]
            case 5:
                data = data[:at] + rng.choice(_NASTY) + data[end:]
            case _:
                data = data[:end] + data[at:end] + data[end:]
    return data


def check(target: Target, data: bytes) -> None:
    """Raises what the decoder must not raise."""
    try:
        target.decode(data)
    except target.errors as error:
        # A class below a documented one is as good; the tree says so.
        assert isinstance(error, PmapError | Unauthentic)
