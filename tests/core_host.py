"""The smallest honest host for an enclave core. It keeps every record and delivery, for less honest tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from pmap import Enclave
from pmap.core import EnclaveCore
from pmap.startup import Restart, start_new, start_stateless
from pmap.tee.simulated import SimulatedTee
from wire.boundary import AnswerKind, Delivery, Incoming, IncomingKind, Rejection
from wire.record import decode_header

TEE = SimulatedTee(bytes(32), bytes(32))


class Rejected(Exception):
    """The enclave gave no authenticated answer."""

    def __init__(self, why: Rejection) -> None:
        super().__init__(why.name)
        self.why = why


@dataclass
class CoreHost:
    """``records`` and ``outbox`` of the branch that it serves; several hosts can share their beginnings."""

    enclave: type[Enclave]
    core: EnclaveCore
    keyring: bytes
    records: list[bytes] = field(default_factory=list)
    outbox: dict[tuple[int, int], tuple[bytes, bytes]] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    honest: bool = True

    @classmethod
    def found(cls, enclave: type[Enclave]) -> CoreHost:
        """A new store."""
        core, keyring, genesis = start_new(enclave(), TEE, os.urandom)
        host = cls(enclave, core, keyring)
        host._store(genesis)
        return host

    @classmethod
    def stateless(cls, enclave: type[Enclave]) -> CoreHost:
        """An enclave that keeps nothing."""
        return cls(enclave, start_stateless(enclave(), TEE, os.urandom), b"")

    def start(self, records: Sequence[bytes] | None = None) -> CoreHost:
        """Another incarnation on these records (default: all): a restart, a rollback or a clone."""
        records = list(self.records if records is None else records)
        restart = Restart(self.enclave(), TEE, os.urandom, self.keyring)
        restart.feed([records[-1], *records[decode_header(records[-1]).tail - 1 :]])
        return CoreHost(self.enclave, restart.finish(), self.keyring, records, dict(self.outbox))

    @property
    def document(self) -> bytes:
        """The attestation document."""
        return self.core.attestation.encode()

    def batch(self, *envelopes: bytes) -> list[bytes | Rejection]:
        """Hand mails over together; each one's answer."""
        answers: list[bytes | Rejection] = [b""] * len(envelopes)
        for delivery in self.core.deliver([Incoming(IncomingKind.MAIL, envelope) for envelope in envelopes]):
            self._store(delivery)
            for answer in delivery.answers:
                if answer.kind is AnswerKind.REJECTED:
                    answers[answer.position] = Rejection(answer.slot)
                elif answer.kind is AnswerKind.BOXED:
                    answers[answer.position] = self.outbox[answer.n, answer.slot][1]
                else:
                    assert answer.data is not None
                    answers[answer.position] = answer.data
        return answers

    def deliver(self, envelope: bytes) -> bytes:
        """Hand one mail over. Raises :class:`Rejected`."""
        (answer,) = self.batch(envelope)
        if isinstance(answer, Rejection):
            raise Rejected(answer)
        return answer

    def call(self, data: bytes) -> tuple[AnswerKind, bytes | None]:
        """The host's own call."""
        (delivery,) = self.core.deliver([Incoming(IncomingKind.CALL, data)])
        self._store(delivery)
        (answer,) = delivery.answers
        return answer.kind, answer.data

    def loses(self) -> None:
        """Lose the outbox."""
        self.outbox.clear()
        self.honest = False

    def polled(self, session: bytes) -> list[bytes]:
        """What waits for a session."""
        return [message for _, (address, message) in sorted(self.outbox.items()) if address == session]

    def _store(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if delivery.commit is not None:
            assert delivery.commit.n == len(self.records) + 1 == delivery.number
            self.records.append(delivery.commit.record)
        for drop in delivery.drops:
            assert self.outbox.pop(drop, None) or not self.honest, "an enclave drops only what is there"
        for item in delivery.outbox:
            self.outbox[delivery.number, item.slot] = (item.address, item.message)
