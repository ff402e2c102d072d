"""A client made of nothing but :mod:`wire.mail`, for tests that look at one mail at a time.

It keeps the evidence as a real client does and checks every reply, but it stores nothing and retries nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from wire.attestation import Attestation
from wire.checkpoint import Checkpoint, encode_evidence
from wire.codec import unpack
from wire.crypto import SigningKey, Unauthentic
from wire.mail import (
    SESSION_BYTES,
    Hello,
    Outcome,
    Reply,
    Request,
    RequestKind,
    open_reply,
    request_id,
    seal_hello,
    seal_request,
)
from wire.refusal import decode_refusal

Deliver = Callable[[bytes], bytes]
"""Sends an envelope, returns the answer's."""


@dataclass
class RawStream:
    """One topic: the next number, the evidence of its last reply, the mail without an answer, the last mail's id."""

    topic: str
    next: int = 0
    evidence: Checkpoint | None = None
    pending: bytes | None = None
    last: bytes = bytes(32)


@dataclass
class RawClient:
    """One client key with its evidence. ``attestation`` is set by :meth:`hello`."""

    attestation: Attestation | None = None
    key: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))
    highest: Checkpoint | None = None
    hellos: int = 0
    session: bytes = b""
    secret: bytes = b""
    inbox_ack: int = 0
    streams: dict[str, RawStream] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As handlers see the sender."""
        return self.key.public.hex()

    # --- hello ---

    def seal_hello(self, document: bytes) -> bytes:
        """A hello to the enclave of this attestation document (which is not verified here)."""
        self.attestation = attestation = Attestation.decode(document)
        self.session, self.secret = os.urandom(SESSION_BYTES), os.urandom(32)
        hello = Hello(self.key.public, self.secret, self.hellos, self.highest)
        self.hellos += 1
        return seal_hello(hello, self.key, attestation.mail_key, attestation.store_id, attestation.epoch, self.session)

    def open_welcome(self, hello: bytes, envelope: bytes) -> Reply:
        """Check the answer to a hello."""
        reply = self.open(envelope)
        assert reply.in_reply_to == request_id(hello)
        self._raise_refusal(reply)
        assert reply.outcome is Outcome.WELCOME
        self._take(reply)
        return reply

    def hello(self, document: bytes, deliver: Deliver) -> Reply:
        """Open a session."""
        envelope = self.seal_hello(document)
        return self.open_welcome(envelope, deliver(envelope))

    # --- mail ---

    def stream(self, topic: str) -> RawStream:
        """The stream of a topic, new if need be."""
        return self.streams.setdefault(topic, RawStream(topic))

    def seal(self, body: bytes, topic: str = "t", kind: RequestKind = RequestKind.MAIL) -> bytes:
        """The next mail of a stream; it is then the pending one."""
        stream = self.stream(topic)
        if kind is RequestKind.RECOVER:
            body = stream.last
        shown = encode_evidence(stream.evidence), encode_evidence(self.highest)
        request = Request(kind, topic, stream.next, *shown, self.inbox_ack, body)
        stream.pending = seal_request(request, self.session, self.secret, os.urandom)
        if kind is not RequestKind.RECOVER:
            stream.last = request_id(stream.pending)
        return stream.pending

    def accept(self, envelope: bytes, topic: str = "t") -> Reply:
        """Check the answer to the stream's pending mail. Raises what a refusal says."""
        stream = self.stream(topic)
        assert stream.pending is not None
        reply = self.open(envelope)
        assert reply.in_reply_to == request_id(stream.pending)
        assert (reply.topic, reply.sequence) == (topic, stream.next)
        stream.pending = None
        self._raise_refusal(reply)
        if reply.checkpoint is not None:
            assert stream.evidence is None or reply.checkpoint.size > stream.evidence.size
            stream.evidence = reply.checkpoint
        stream.next += 1
        self._take(reply)
        return reply

    def send(self, body: bytes, deliver: Deliver, topic: str = "t", kind: RequestKind = RequestKind.MAIL) -> Reply:
        """One mail and its answer."""
        return self.accept(deliver(self.seal(body, topic, kind)), topic)

    def mail(self, body: bytes, deliver: Deliver, topic: str = "t") -> bytes | None:
        """One mail that is to be executed: its payload."""
        reply = self.send(body, deliver, topic)
        assert reply.outcome is Outcome.EXECUTED, reply
        return reply.payload

    def recover(self, deliver: Deliver, topic: str = "t") -> Outcome:
        """Ask what became of the pending mail; RECOVERED or FENCED."""
        return self.send(b"", deliver, topic, RequestKind.RECOVER).outcome

    # --- replies ---

    def open(self, envelope: bytes) -> Reply:
        """Decrypt an envelope of this session."""
        assert self.attestation is not None
        return open_reply(envelope, self.secret, self.attestation.store_id)

    def open_polled(self, polled: bytes) -> list[Reply]:
        """Every reply of this session in the answer to a poll."""
        replies = []
        for envelope in unpack(polled, 1 << 30):
            try:
                replies.append(self.open(envelope))
            except Unauthentic:
                continue
        return replies

    def _raise_refusal(self, reply: Reply) -> None:
        if reply.outcome is Outcome.REFUSED:
            assert self.attestation is not None and reply.payload is not None
            raise decode_refusal(reply.payload, self.attestation.store_id)

    def _take(self, reply: Reply) -> None:
        checkpoint = reply.checkpoint
        if checkpoint is not None and (self.highest is None or checkpoint.size > self.highest.size):
            self.highest = checkpoint
