"""Mail: the three encrypted messages between a client and an enclave, as the host sees and carries them.

::

    hello = version(1) ‖ 1 ‖ epoch(32) ‖ session(16) ‖ HPKE(to the mail key, info = label ‖ store id ‖ header)
    mail  = version(1) ‖ 2 ‖ session(16) ‖ sealed once with the session's secret
    reply = version(1) ‖ 3 ‖ session(16) ‖ sealed once with the session's secret

A session is one client's key agreement with one epoch of one enclave; its 16 random bytes are all that the host
can route by, and are derived from no key. "Sealed once" is :func:`wire.crypto.seal_once`: a fresh 32-byte salt, hence
a fresh key, for every message, so no counter has to survive anything. That salt is a mail's name as well: replies and
RECOVER say by it which mail they are about. Two mails of equal content are two mails.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from wire.checkpoint import CHECKPOINT_BYTES, Checkpoint, decode_evidence, encode_evidence
from wire.codec import expect, pack, unpack
from wire.crypto import (
    KEY_BYTES,
    PUBLIC_KEY_BYTES,
    SALT_BYTES,
    SIGNATURE_BYTES,
    Randomness,
    Secret,
    SigningKey,
    open_once,
    seal_once,
    sha256,
    verify,
)
from wire.errors import MailTooLarge, Malformed
from wire.hpke import MailKey, MailPublicKey
from wire.limits import MAX_BODY_BYTES, MAX_ENVELOPE_BYTES, MAX_HELLO_BYTES, MAX_TOPIC_BYTES
from wire.padding import Padding, pad, padme, unpad
from wire.record import EPOCH_BYTES

MAIL_VERSION: Final = 1
SESSION_BYTES: Final = 16
MAX_COUNTER: Final = (1 << 63) - 1
_MAIL_HEADER_BYTES: Final = 2 + SESSION_BYTES
_HELLO_HEADER_BYTES: Final = 2 + EPOCH_BYTES + SESSION_BYTES


class EnvelopeKind(IntEnum):
    """The second byte of every envelope."""

    HELLO = 1
    MAIL = 2
    REPLY = 3


class RequestKind(IntEnum):
    """What a mail asks for."""

    MAIL = 0
    """Run the handler on the body."""
    RECOVER = 1
    """Say whether the mail with this sequence number and id (the body) was executed; fence it if not."""
    HEARTBEAT = 2
    """Only acknowledge: no handler runs."""


class Outcome(IntEnum):
    """What became of a mail."""

    WELCOME = 0
    EXECUTED = 1
    HANDLER_FAILED = 2
    FENCED = 3
    HEARTBEAT = 4
    REFUSED = 5
    INBOX = 6
    """Not an answer: a mail that the enclave sent on its own; ``sequence`` is its inbox number."""
    RECOVERED = 7
    """The answer to RECOVER for a mail that was executed; the payload is [outcome, digest of the reply]."""


class Refusal(IntEnum):
    """Why a mail was refused before it was executed: the first field of a REFUSED payload."""

    ROLLBACK = 1
    FORK = 2
    REPLAY = 3
    GAP = 4
    CLIENT_STALE = 5
    EVIDENCE_INVALID = 6
    EVIDENCE_UNPROVEN = 7
    NOT_ENROLLED = 8
    LIMIT = 9
    MALFORMED = 10


class Hello(NamedTuple):
    """The content of a hello, its signature checked."""

    client: bytes
    secret: bytes
    number: int
    highest: Checkpoint | None


class Request(NamedTuple):
    """The content of a mail.

    ``evidence`` and ``highest`` are as they travel (:func:`wire.checkpoint.encode_evidence`): almost all of it is
    recognised by its first bytes, and never taken apart.
    """

    kind: RequestKind
    topic: str
    sequence: int
    evidence: bytes
    highest: bytes
    inbox_ack: int
    body: bytes


class Reply(NamedTuple):
    """The content of a reply. ``checkpoint`` is None where nothing was committed (a refusal, a stateless enclave)."""

    outcome: Outcome
    topic: str
    sequence: int
    in_reply_to: bytes
    checkpoint: Checkpoint | None
    stable: int
    payload: bytes | None


def envelope_kind(untrusted: bytes) -> EnvelopeKind:
    """Which message this claims to be. Raises :class:`Malformed` for none, another version, or too many bytes."""
    if len(untrusted) > MAX_ENVELOPE_BYTES:
        raise Malformed(f"a mail of {len(untrusted)} bytes; at most {MAX_ENVELOPE_BYTES} are allowed")
    if len(untrusted) < _MAIL_HEADER_BYTES or untrusted[0] != MAIL_VERSION:
        raise Malformed("not a mail of this version")
    return _member(_ENVELOPE_KINDS, untrusted[1])


def session_of(untrusted: bytes) -> bytes:
    """The session that an envelope names (of a checked kind)."""
    if untrusted[1] == EnvelopeKind.HELLO:
        return untrusted[2 + EPOCH_BYTES : _HELLO_HEADER_BYTES]
    return untrusted[2:_MAIL_HEADER_BYTES]


def epoch_of_hello(untrusted: bytes) -> bytes:
    """The epoch that a hello names. Raises :class:`Malformed`."""
    if len(untrusted) < _HELLO_HEADER_BYTES:
        raise Malformed("a hello that is too short")
    return untrusted[2 : 2 + EPOCH_BYTES]


def request_id(envelope: bytes) -> bytes:
    """The 32 bytes that name a mail or hello, in every session and epoch.

    A mail's are its salt: no other mail has it, and whoever changes it breaks the seal."""
    if envelope[1] == EnvelopeKind.HELLO:
        return sha256(envelope)
    return envelope[_MAIL_HEADER_BYTES : _MAIL_HEADER_BYTES + SALT_BYTES]


# --- hello ---------------------------------------------------------------------------------------------


def seal_hello(
    hello: Hello, signing_key: SigningKey, mail_key: MailPublicKey, store_id: bytes, epoch: bytes, session: bytes
) -> bytes:
    """Encrypt and sign a hello."""
    header = bytes([MAIL_VERSION, EnvelopeKind.HELLO]) + epoch + session
    highest = encode_evidence(hello.highest)
    signature = signing_key.sign(_hello_text(store_id, header, mail_key, hello.secret, hello.number, highest))
    plaintext = pack([hello.client, hello.secret, hello.number, highest, signature])
    return header + mail_key.seal(pad(plaintext), _hello_info(store_id, header))


def open_hello(untrusted: bytes, mail_key: MailKey, store_id: bytes) -> Hello:
    """Decrypt a hello and check its signature.

    Raises:
        Unauthentic: not encrypted to this key for this store, epoch and session, or not signed by its client.
        Malformed: too long, or not a hello's fields.
    """
    if len(untrusted) > MAX_HELLO_BYTES:
        raise Malformed(f"a hello of {len(untrusted)} bytes; at most {MAX_HELLO_BYTES} are allowed")
    header = untrusted[:_HELLO_HEADER_BYTES]
    plaintext = unpad(mail_key.open(untrusted[_HELLO_HEADER_BYTES:], _hello_info(store_id, header)))
    client, secret, number, highest, signature = expect(
        unpack(plaintext, MAX_HELLO_BYTES), bytes, bytes, int, bytes, bytes
    )
    if (len(client), len(secret), len(signature)) != (PUBLIC_KEY_BYTES, KEY_BYTES, SIGNATURE_BYTES):
        raise Malformed("a hello with fields of the wrong length")
    verify(client, signature, _hello_text(store_id, header, mail_key.public, secret, number, highest))
    return Hello(client, secret, _counter(number), decode_evidence(store_id, highest))


def _hello_info(store_id: bytes, header: bytes) -> bytes:
    return b"pmap/1 hello" + store_id + header


def _hello_text(
    store_id: bytes, header: bytes, mail_key: MailPublicKey, secret: bytes, number: int, highest: bytes
) -> bytes:
    # Naming the recipient's key stops an enclave that was said hello to from passing it on as said to another.
    return b"pmap/1 hello signature" + pack([store_id, header, mail_key.data, secret, number, highest])


# --- mail ----------------------------------------------------------------------------------------------


def seal_request(
    request: Request, session: bytes, secret: Secret, randomness: Randomness, padding: Padding = padme
) -> bytes:
    """Encrypt a mail. Raises :class:`MailTooLarge` and, for a topic that is none, :class:`Malformed`."""
    check_topic(request.topic)
    if len(request.body) > MAX_BODY_BYTES:
        raise MailTooLarge(f"a body of {len(request.body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    header = _MAIL_PREFIX + session
    return header + seal_once(secret, b"mail", pad(pack(request), padding), header, randomness)


def open_request(untrusted: bytes, secret: Secret) -> Request:
    """Decrypt a mail of a known session. Raises :class:`wire.crypto.Unauthentic` and :class:`Malformed`."""
    header = untrusted[:_MAIL_HEADER_BYTES]
    plaintext = unpad(open_once(secret, b"mail", untrusted[_MAIL_HEADER_BYTES:], header))
    kind, topic, sequence, evidence, highest, inbox_ack, body = expect(
        unpack(plaintext, MAX_ENVELOPE_BYTES), int, str, int, bytes, bytes, int, bytes
    )
    if len(body) > MAX_BODY_BYTES:
        raise Malformed(f"a body of {len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    check_topic(topic)
    if len(evidence) not in _EVIDENCE_LENGTHS or len(highest) not in _EVIDENCE_LENGTHS:
        raise Malformed("evidence of the wrong length")
    return Request(
        _member(_REQUEST_KINDS, kind), topic, _counter(sequence), evidence, highest, _counter(inbox_ack), body
    )


def reply_digest(outcome: Outcome, payload: bytes | None) -> bytes:
    """What identifies a reply's content."""
    answered = b"\x00" if payload is None else b"\x01" + payload
    return sha256(b"pmap/1 reply" + bytes((outcome,)) + answered)


# --- reply ---------------------------------------------------------------------------------------------


def seal_reply(reply: Reply, session: bytes, secret: Secret, randomness: Randomness, padding: Padding = padme) -> bytes:
    """Encrypt a reply."""
    return seal_issuing(reply, encode_evidence(reply.checkpoint), reply.stable, session, secret, randomness, padding)


def seal_issuing(
    reply: Reply,
    evidence: bytes,
    stable: int,
    session: bytes,
    secret: Secret,
    randomness: Randomness,
    padding: Padding = padme,
) -> bytes:
    """Encrypt a reply with these fields in the place of its own: those that all replies of a commit have in common."""
    fields = [*reply[:4], evidence, stable, reply.payload]
    header = _REPLY_PREFIX + session
    return header + seal_once(secret, b"reply", pad(pack(fields), padding), header, randomness)


def open_reply(untrusted: bytes, secret: Secret, store_id: bytes) -> Reply:
    """Decrypt a reply of a known session. Raises :class:`wire.crypto.Unauthentic` and :class:`Malformed`."""
    if envelope_kind(untrusted) is not EnvelopeKind.REPLY:
        raise Malformed("not a reply")
    header = untrusted[:_MAIL_HEADER_BYTES]
    plaintext = unpad(open_once(secret, b"reply", untrusted[_MAIL_HEADER_BYTES:], header))
    outcome, topic, sequence, in_reply_to, checkpoint, stable, payload = expect(
        unpack(plaintext, MAX_ENVELOPE_BYTES), int, str, int, bytes, bytes, int, object
    )
    if payload is not None and type(payload) is not bytes:
        raise Malformed("a payload is bytes or nothing")
    return Reply(
        _member(_OUTCOMES, outcome),
        topic,
        _counter(sequence),
        in_reply_to,
        decode_evidence(store_id, checkpoint),
        _counter(stable),
        payload,
    )


# --- fields --------------------------------------------------------------------------------------------


def check_topic(topic: str) -> None:
    """A topic is 1 to 128 bytes of ASCII letters, digits, ``-``, ``_`` and ``.``. Raises :class:`Malformed`."""
    if _TOPIC.fullmatch(topic) is None:
        raise Malformed(f"a topic is 1 to {MAX_TOPIC_BYTES} letters, digits, '-', '_' or '.', not {topic[:40]!r}")


_TOPIC: Final = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_TOPIC_BYTES}}}")


def _counter(value: int) -> int:
    if not 0 <= value <= MAX_COUNTER:
        raise Malformed("a counter out of range")
    return value


_Member = TypeVar("_Member")


def _member(members: dict[int, _Member], value: int) -> _Member:
    # A dictionary, because calling the enumeration takes four times as long.
    try:
        return members[value]
    except KeyError:
        raise Malformed(f"an outcome or kind that does not exist: {value}") from None


_REQUEST_KINDS: Final = {int(kind): kind for kind in RequestKind}
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}
_ENVELOPE_KINDS: Final = {int(kind): kind for kind in EnvelopeKind}
_EVIDENCE_LENGTHS: Final = (CHECKPOINT_BYTES, 0)
_MAIL_PREFIX: Final = bytes([MAIL_VERSION, EnvelopeKind.MAIL])
_REPLY_PREFIX: Final = bytes([MAIL_VERSION, EnvelopeKind.REPLY])
