"""Mail by itself: what is sealed is read back, and what does not have a mail's exact form is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest

from wire.checkpoint import CHECKPOINT_BYTES, Checkpoint, sign_checkpoint
from wire.codec import pack
from wire.crypto import HmacKey, SigningKey, Unauthentic, seal_once, sha256
from wire.errors import MailTooLarge, Malformed
from wire.hpke import Kem, MailKey
from wire.limits import MAX_HELLO_BYTES, MAX_TOPIC_BYTES
from wire.mail import (
    MAX_COUNTER,
    EnvelopeKind,
    Hello,
    Outcome,
    Reply,
    Request,
    RequestKind,
    envelope_kind,
    epoch_of_hello,
    open_hello,
    open_reply,
    open_request,
    reply_digest,
    request_id,
    seal_hello,
    seal_issuing,
    seal_reply,
    seal_request,
    session_of,
)
from wire.padding import no_padding, pad

STORE, EPOCH, SESSION, SECRET = bytes(range(16)), bytes(range(32)), b"session-" * 2, b"s" * 32
CLIENT = SigningKey(b"\x01" * 32)
MAIL_KEY = MailKey(Kem.X25519, os.urandom)
HIGHEST = sign_checkpoint(SigningKey(b"\x02" * 32), STORE, 7, b"r" * 32)
MAIL_HEADER, REPLY_HEADER = b"\x01\x02" + SESSION, b"\x01\x03" + SESSION
HELLO_HEADER = b"\x01\x01" + EPOCH + SESSION

HELLO = Hello(CLIENT.public, SECRET, 5, HIGHEST)
REQUEST = Request(RequestKind.RECOVER, "a.topic_-9", 3, HIGHEST.encode(), b"", 4, b"body")
REPLY = Reply(Outcome.EXECUTED, "topic", 6, b"i" * 32, HIGHEST, 2, b"payload")


def seal_fields(label: bytes, header: bytes, fields: list[Any]) -> bytes:
    """What somebody who has the session's secret could send."""
    return header + seal_once(SECRET, label, pad(pack(fields)), header, os.urandom)


def said(**changes: Any) -> bytes:
    """A hello with other fields, signed as its client would."""
    fields = HELLO._asdict() | {"highest": HIGHEST.encode()} | changes
    client, secret, number, highest = (fields[name] for name in HELLO._fields)
    text = pack([STORE, HELLO_HEADER, MAIL_KEY.public.data, secret, number, highest])
    signature = changes.get("signature", CLIENT.sign(b"pmap/1 hello signature" + text))
    plaintext = pack([client, secret, number, highest, signature][: changes.get("cut", 5)])
    return HELLO_HEADER + MAIL_KEY.public.seal(pad(plaintext), b"pmap/1 hello" + STORE + HELLO_HEADER)


# --- envelopes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(EnvelopeKind))
def test_an_envelope_is_known_by_its_version_and_kind(kind: EnvelopeKind) -> None:
    shortest = bytes([1, kind]) + SESSION
    assert envelope_kind(shortest) is kind
    for wrong in (shortest[:-1], b"", b"\x02" + shortest[1:], b"\x00" + shortest[1:]):
        with pytest.raises(Malformed):
            envelope_kind(wrong)


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_envelope_of_no_kind_is_malformed(kind: int) -> None:
    with pytest.raises(Malformed):
        envelope_kind(bytes([1, kind]) + SESSION)


def test_an_envelope_of_the_largest_size_is_taken_and_none_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.mail.MAX_ENVELOPE_BYTES", 1000)  # the real one takes a while to fill
    largest = b"\x01\x02".ljust(1000, b"\x00")
    assert envelope_kind(largest) is EnvelopeKind.MAIL
    with pytest.raises(Malformed, match="at most"):
        envelope_kind(largest + b"\x00")


def test_session_and_epoch_are_read_from_where_they_stand() -> None:
    hello = HELLO_HEADER + b"more"
    assert session_of(hello) == SESSION
    assert session_of(MAIL_HEADER + b"more") == session_of(REPLY_HEADER + b"more") == SESSION
    assert epoch_of_hello(hello) == epoch_of_hello(HELLO_HEADER) == EPOCH
    with pytest.raises(Malformed):
        epoch_of_hello(HELLO_HEADER[:-1])


def test_a_mail_is_named_by_its_salt_and_a_hello_by_its_hash() -> None:
    salt = os.urandom(32)
    assert request_id(MAIL_HEADER + salt + b"more") == salt
    assert request_id(HELLO_HEADER + salt) == sha256(HELLO_HEADER + salt)


# --- hello ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hello", [HELLO, HELLO._replace(highest=None, number=0), HELLO._replace(number=MAX_COUNTER)])
def test_a_hello_is_read_back(hello: Hello) -> None:
    sealed = seal_hello(hello, CLIENT, MAIL_KEY.public, STORE, EPOCH, SESSION)
    assert sealed.startswith(HELLO_HEADER)
    assert open_hello(sealed, MAIL_KEY, STORE) == hello
    assert open_hello(said(), MAIL_KEY, STORE) == HELLO


def test_a_hello_opens_for_its_store_epoch_session_and_key_alone() -> None:
    sealed = seal_hello(HELLO, CLIENT, MAIL_KEY.public, STORE, EPOCH, SESSION)
    with pytest.raises(Unauthentic):
        open_hello(sealed, MAIL_KEY, bytes(16))
    with pytest.raises(Unauthentic):
        open_hello(sealed, MailKey(Kem.X25519, os.urandom), STORE)
    for at in range(len(HELLO_HEADER)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(Unauthentic):
            open_hello(bytes(altered), MAIL_KEY, STORE)


def test_a_hello_passed_on_to_another_enclave_is_not_its_clients_word() -> None:
    """The recipient's key is in what the client signed."""
    other = MailKey(Kem.X25519, os.urandom)
    passed_on = HELLO_HEADER + other.public.seal(
        pad(pack([CLIENT.public, SECRET, 5, HIGHEST.encode(), signature_of(HELLO)])),
        b"pmap/1 hello" + STORE + HELLO_HEADER,
    )
    with pytest.raises(Unauthentic):
        open_hello(passed_on, other, STORE)


def signature_of(hello: Hello) -> bytes:
    evidence = b"" if hello.highest is None else hello.highest.encode()
    text = pack([STORE, HELLO_HEADER, MAIL_KEY.public.data, hello.secret, hello.number, evidence])
    return CLIENT.sign(b"pmap/1 hello signature" + text)


@pytest.mark.parametrize(
    "changes",
    [
        {"client": SigningKey(b"\x03" * 32).public},
        {"signature": bytes(64)},
        {"signature": CLIENT.sign(b"something else")},
    ],
)
def test_a_hello_that_its_client_did_not_sign_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthentic):
        open_hello(said(**changes), MAIL_KEY, STORE)


@pytest.mark.parametrize(
    "changes",
    [
        {"client": bytes(31)},
        {"client": CLIENT.public + b"\x00"},
        {"secret": bytes(31)},
        {"secret": bytes(33)},
        {"signature": bytes(63)},
        {"signature": bytes(65)},
        {"number": -1},
        {"number": MAX_COUNTER + 1},
        {"number": True},
        {"highest": bytes(CHECKPOINT_BYTES - 1)},
        {"highest": None},
        {"secret": "s" * 32},
        {"cut": 4},
    ],
)
def test_a_hello_of_another_form_is_malformed_though_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        open_hello(said(**changes), MAIL_KEY, STORE)


def test_a_hello_over_its_bound_is_refused_before_it_is_decrypted() -> None:
    largest = said().ljust(MAX_HELLO_BYTES, b"\x00")
    with pytest.raises(Unauthentic):
        open_hello(largest, MAIL_KEY, STORE)
    with pytest.raises(Malformed, match="at most"):
        open_hello(largest + b"\x00", MAIL_KEY, STORE)


# --- mail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        *(REQUEST._replace(kind=kind) for kind in RequestKind),
        REQUEST._replace(evidence=b"", highest=HIGHEST.encode(), sequence=0, inbox_ack=0, body=b""),
        REQUEST._replace(sequence=MAX_COUNTER, inbox_ack=MAX_COUNTER, topic="t" * MAX_TOPIC_BYTES),
    ],
)
def test_a_mail_is_read_back_field_by_field(request_: Request) -> None:
    sealed = seal_request(request_, SESSION, SECRET, os.urandom)
    assert sealed.startswith(MAIL_HEADER)
    opened = open_request(sealed, SECRET)
    assert opened == request_
    assert type(opened.kind) is RequestKind
    assert open_request(sealed, HmacKey(SECRET)) == request_


def test_a_mail_opens_in_its_session_under_its_secret_and_as_a_mail_alone() -> None:
    sealed = seal_request(REQUEST, SESSION, SECRET, os.urandom)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(Unauthentic):
            open_request(bytes(altered), SECRET)
    with pytest.raises(Unauthentic):
        open_request(sealed, b"t" * 32)
    with pytest.raises(Unauthentic):
        open_request(seal_fields(b"reply", MAIL_HEADER, list(REQUEST)), SECRET)


def test_a_mail_is_as_long_as_its_padding_says() -> None:
    def padding(length: int) -> int:
        return length + 1000

    plain = len(seal_request(REQUEST, SESSION, SECRET, os.urandom, no_padding))
    assert len(seal_request(REQUEST, SESSION, SECRET, os.urandom, padding)) == plain + 1000
    assert len(seal_request(REQUEST, SESSION, SECRET, os.urandom)) == 18 + 48 + 256
    plain = len(seal_reply(REPLY, SESSION, SECRET, os.urandom, no_padding))
    assert len(seal_reply(REPLY, SESSION, SECRET, os.urandom, padding)) == plain + 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 3},
        {"kind": -1},
        {"kind": True},
        {"topic": ""},
        {"topic": "t" * (MAX_TOPIC_BYTES + 1)},
        {"topic": "two words"},
        {"topic": "a\n"},
        {"topic": b"bytes"},
        {"sequence": -1},
        {"sequence": MAX_COUNTER + 1},
        {"inbox_ack": -1},
        {"inbox_ack": MAX_COUNTER + 1},
        {"evidence": bytes(CHECKPOINT_BYTES - 1)},
        {"evidence": bytes(CHECKPOINT_BYTES + 1)},
        {"evidence": b"\x00"},
        {"highest": bytes(CHECKPOINT_BYTES - 1)},
        {"highest": bytes(CHECKPOINT_BYTES + 1)},
        {"evidence": None},
        {"body": "text"},
        {"body": None},
    ],
)
def test_a_mail_of_another_form_is_malformed_though_sealed(changes: dict[str, Any]) -> None:
    fields = list((REQUEST._asdict() | changes).values())
    assert open_request(seal_fields(b"mail", MAIL_HEADER, list(REQUEST)), SECRET) == REQUEST
    with pytest.raises(Malformed):
        open_request(seal_fields(b"mail", MAIL_HEADER, fields), SECRET)


def test_a_body_of_the_largest_size_is_taken_and_none_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.mail.MAX_BODY_BYTES", 1000)
    largest = REQUEST._replace(body=bytes(1000))
    assert open_request(seal_request(largest, SESSION, SECRET, os.urandom), SECRET) == largest
    larger = largest._replace(body=bytes(1001))
    with pytest.raises(MailTooLarge):
        seal_request(larger, SESSION, SECRET, os.urandom)
    with pytest.raises(Malformed, match="at most"):
        open_request(seal_fields(b"mail", MAIL_HEADER, list(larger)), SECRET)


def test_no_mail_is_sealed_to_what_is_no_topic() -> None:
    with pytest.raises(Malformed):
        seal_request(REQUEST._replace(topic="two words"), SESSION, SECRET, os.urandom)


# --- reply ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        REPLY,
        *(REPLY._replace(outcome=outcome) for outcome in Outcome),
        REPLY._replace(checkpoint=None, payload=None, stable=0, sequence=0),
        REPLY._replace(payload=b"", stable=MAX_COUNTER, sequence=MAX_COUNTER),
    ],
)
def test_a_reply_is_read_back_field_by_field(reply: Reply) -> None:
    sealed = seal_reply(reply, SESSION, SECRET, os.urandom)
    assert sealed.startswith(REPLY_HEADER)
    opened = open_reply(sealed, SECRET, STORE)
    assert opened == reply
    assert type(opened.outcome) is Outcome


def test_a_reply_is_issued_with_the_commits_evidence_in_the_place_of_its_own() -> None:
    newer = sign_checkpoint(SigningKey(b"\x02" * 32), STORE, 8, b"n" * 32)
    sealed = seal_issuing(REPLY, newer.encode(), 8, SESSION, SECRET, os.urandom)
    assert open_reply(sealed, SECRET, STORE) == REPLY._replace(checkpoint=newer, stable=8)


def test_a_reply_opens_in_its_session_under_its_secret_and_as_a_reply_alone() -> None:
    sealed = seal_reply(REPLY, SESSION, SECRET, os.urandom)
    for at in range(2, len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(Unauthentic):
            open_reply(bytes(altered), SECRET, STORE)
    with pytest.raises(Unauthentic):
        open_reply(sealed, b"t" * 32, STORE)
    with pytest.raises(Unauthentic):
        open_reply(seal_fields(b"mail", REPLY_HEADER, fields_of(REPLY)), SECRET, STORE)
    with pytest.raises(Malformed, match="not a reply"):
        open_reply(MAIL_HEADER + sealed[18:], SECRET, STORE)


def fields_of(reply: Reply) -> list[Any]:
    return [*reply[:4], b"" if reply.checkpoint is None else reply.checkpoint.encode(), *reply[5:]]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 8),
        (0, -1),
        (0, True),
        (1, b"topic"),
        (2, -1),
        (2, MAX_COUNTER + 1),
        (3, "text"),
        (4, bytes(CHECKPOINT_BYTES - 1)),
        (4, None),
        (5, -1),
        (5, MAX_COUNTER + 1),
        (6, "text"),
        (6, 0),
    ],
)
def test_a_reply_of_another_form_is_malformed_though_sealed(at: int, value: object) -> None:
    fields = fields_of(REPLY)
    assert open_reply(seal_fields(b"reply", REPLY_HEADER, fields), SECRET, STORE) == REPLY
    fields[at] = value
    with pytest.raises(Malformed):
        open_reply(seal_fields(b"reply", REPLY_HEADER, fields), SECRET, STORE)


def test_the_checkpoint_of_a_reply_is_of_the_store_that_was_asked() -> None:
    opened = open_reply(seal_reply(REPLY, SESSION, SECRET, os.urandom), SECRET, bytes(16))
    assert opened.checkpoint == Checkpoint(bytes(16), HIGHEST.size, HIGHEST.root, HIGHEST.signature)


def test_replies_of_another_outcome_or_payload_have_another_digest() -> None:
    """The bytes are fixed: a client compares the digest with one that the enclave made in an earlier epoch."""
    assert reply_digest(Outcome.EXECUTED, b"x") == sha256(b"pmap/1 reply\x01\x01x")
    assert reply_digest(Outcome.FENCED, None) == sha256(b"pmap/1 reply\x03\x00")
    assert reply_digest(Outcome.EXECUTED, b"") != reply_digest(Outcome.EXECUTED, None)
