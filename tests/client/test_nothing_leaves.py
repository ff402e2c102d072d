"""Nothing leaves a client for an enclave that it does not accept: no hello, no mail, to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from host_enclaves import Ledger
from tee_vectors import TDX

from client import EnclaveClient, InProcessTransport
from host_store.host import EnclaveHost
from wire.attestation import Attestation
from wire.errors import AttestationError, IdentityMismatch, ReportDataMismatch, TcbUnacceptable
from wire.hpke import Kem, MailPublicKey
from wire.mail import EnvelopeKind, envelope_kind

Forge = Callable[[Attestation], Attestation]


class Watched(InProcessTransport):
    """A host that may change its document, and everything that is sent to it."""

    def __init__(self, host: EnclaveHost) -> None:
        super().__init__(host)
        self.sent: list[bytes] = []
        self.forge: Forge = lambda document: document

    def attestation(self) -> bytes:
        return self.forge(Attestation.decode(super().attestation())).encode()

    def deliver(self, envelope: bytes) -> bytes:
        self.sent.append(envelope)
        return super().deliver(envelope)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[EnclaveHost]:
    with EnclaveHost.start(Ledger, tmp_path / "store", in_process=True) as running:
        yield running


def of_another_key(document: Attestation) -> Attestation:
    return replace(document, mail_key=MailPublicKey(Kem.X25519, bytes(range(32))))


def of_real_hardware(document: Attestation) -> Attestation:
    return replace(document, tee="tdx", evidence=TDX.evidence)


@pytest.mark.parametrize(
    ("constraint", "forge", "refusal"),
    [
        ("C:" + "00" * 32 + " SEC:INSECURE", None, IdentityMismatch),
        ("S:" + "00" * 32 + " SEC:INSECURE", None, IdentityMismatch),
        ("REVOKE:2 SEC:INSECURE", None, IdentityMismatch),
        ("S:" + "00" * 32, None, TcbUnacceptable),
        ("SEC:INSECURE", of_another_key, ReportDataMismatch),
        ("SEC:INSECURE", of_real_hardware, AttestationError),
    ],
    ids=["code", "signer", "version", "simulated", "another key", "somebody's evidence"],
)
def test_a_refused_enclave_gets_nothing(
    host: EnclaveHost, constraint: str, forge: Forge | None, refusal: type[AttestationError]
) -> None:
    transport = Watched(host)
    if forge is not None:
        transport.forge = forge
    with pytest.raises(refusal):
        EnclaveClient.connect(transport, constraint=constraint)
    assert transport.sent == []


def test_with_the_evidence_of_the_last_epoch_a_restarted_enclave_gets_no_hello(host: EnclaveHost) -> None:
    transport = Watched(host)
    with EnclaveClient.connect(transport, constraint="SEC:INSECURE", retry_delays=()) as client:
        client.send(b"put a 1")
        old = Attestation.decode(host.attestation())
        host.restart()
        transport.forge = lambda document: replace(document, evidence=old.evidence)
        transport.sent.clear()
        with pytest.raises(ReportDataMismatch):
            client.send(b"put a 2")
        # The mail itself went out under the old session's key, which only the ended epoch could have opened.
        assert [envelope_kind(one) for one in transport.sent] == [EnvelopeKind.MAIL]
        transport.forge = lambda document: document
        assert client.send(b"get a").payload == b"2", "it was pending, and was sent to the enclave that proved itself"
