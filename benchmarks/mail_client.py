"""A client that does what the protocol asks and no more: no file, no retries, one stream.

It seals and opens every mail and carries the evidence that the last reply gave it, as each client must; a load
generator has to spend as little as possible beside that.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from wire.attestation import Attestation
from wire.checkpoint import CHECKPOINT_BYTES, encode_evidence
from wire.crypto import KEY_BYTES, HmacKey, SigningKey
from wire.errors import Malformed
from wire.mail import (
    SESSION_BYTES,
    Hello,
    Outcome,
    Reply,
    Request,
    RequestKind,
    open_reply,
    open_request,
    request_id,
    seal_hello,
    seal_request,
)

TOPIC: Final = "load"


class Talker(Protocol):
    """Whoever a load generator can let talk, one mail after the other."""

    def seal(self, body: bytes) -> bytes:
        """The next envelope."""
        ...

    def accept(self, envelope: bytes) -> bytes | None:
        """Take the answer to it."""
        ...


class MailClient:
    """One client in one session with the enclave of an attestation document (which is not verified here)."""

    def __init__(self, document: bytes) -> None:
        self._attestation = Attestation.decode(document)
        self._session, self._secret = os.urandom(SESSION_BYTES), os.urandom(KEY_BYTES)
        self._keys = HmacKey(self._secret)
        self._sequence = 0
        self._evidence = b""
        self._sent = b""

    def hello(self) -> bytes:
        """The envelope that opens the session."""
        to, key = self._attestation, SigningKey(os.urandom(KEY_BYTES))
        hello = Hello(key.public, self._secret, 0, None)
        self._sent = seal_hello(hello, key, to.mail_key, to.store_id, to.epoch, self._session)
        return self._sent

    def welcome(self, envelope: bytes) -> None:
        """Take the answer to :meth:`hello`. The session's highest evidence is what it carries."""
        self._highest = encode_evidence(self._opened(envelope, Outcome.WELCOME).checkpoint)

    def seal(self, body: bytes) -> bytes:
        """The next mail."""
        request = Request(RequestKind.MAIL, TOPIC, self._sequence, self._evidence, self._highest, 0, body)
        self._sent = seal_request(request, self._session, self._keys, os.urandom)
        return self._sent

    def accept(self, envelope: bytes) -> bytes | None:
        """Take the answer to the last mail, which must have been executed; its payload."""
        reply = self._opened(envelope, Outcome.EXECUTED)
        self._sequence += 1
        # With one stream, the last reply's checkpoint is the highest as well.
        self._evidence = self._highest = encode_evidence(reply.checkpoint)
        return reply.payload

    def _opened(self, envelope: bytes, expected: Outcome) -> Reply:
        reply = open_reply(envelope, self._keys, self._attestation.store_id)
        if reply.in_reply_to != request_id(self._sent) or reply.outcome is not expected:
            raise Malformed(f"{reply.outcome.name} where {expected.name} was due: {reply.payload!r}")
        return reply


class EchoClient:
    """Does a client's work with a server that only echoes: it seals mails of the same length, and opens the echo."""

    def __init__(self) -> None:
        self._session, self._keys = os.urandom(SESSION_BYTES), HmacKey(os.urandom(KEY_BYTES))
        self._checkpoint = bytes(CHECKPOINT_BYTES)
        self._sequence = 0
        self._sent = b""

    def seal(self, body: bytes) -> bytes:
        """The next mail."""
        held = self._checkpoint
        request = Request(RequestKind.MAIL, TOPIC, self._sequence, held, held, 0, body)
        self._sent = seal_request(request, self._session, self._keys, os.urandom)
        return self._sent

    def accept(self, envelope: bytes) -> bytes | None:
        """Take the echo."""
        if envelope != self._sent:
            raise Malformed("the echo is not what was sent")
        request = open_request(envelope, self._keys)
        self._sequence += 1
        return request.body


class IdleClient:
    """Sends the same bytes again and again and does not look at what comes back: what the server alone can do."""

    def __init__(self) -> None:
        self._echo = EchoClient()
        self._sealed = b""

    def seal(self, body: bytes) -> bytes:
        """The first mail, as it was sealed then."""
        self._sealed = self._sealed or self._echo.seal(body)
        return self._sealed

    def accept(self, envelope: bytes) -> bytes | None:
        """Whatever it is."""
        return envelope
