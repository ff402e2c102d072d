"""What a client refuses before any secret leaves it (attack rows 24, 34, 80)."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from sealed_store import Counter, SealedStore
from tee_vectors import SNP, TDX

from client.constraint import Constraint
from client.verification import verify_attestation
from pmap.tee.simulated import DEFAULT_SIGNER, SimulatedTee
from wire.attestation import Attestation
from wire.errors import (
    AttestationError,
    EvidenceMalformed,
    IdentityMismatch,
    ReportDataMismatch,
    TcbUnacceptable,
)

CODE = b"\x01" * 32
TEE = SimulatedTee(os.urandom(32), CODE)
INSECURE = Constraint.parse(f"C:{CODE.hex()} S:{DEFAULT_SIGNER.hex()} PROD:1 SEC:INSECURE")


def two_epochs() -> tuple[Attestation, Attestation]:
    """The documents of an enclave before and after a restart."""
    store = SealedStore.found(Counter, TEE)
    first, _ = store.restart(Counter, TEE)
    second, _ = store.restart(Counter, TEE)
    return first.attestation, second.attestation


def test_the_right_enclave_is_accepted_in_every_epoch() -> None:
    for document in two_epochs():
        assert verify_attestation(document, INSECURE).measurement == CODE


@pytest.mark.parametrize("level", ["", " SEC:SECURE", " SEC:STALE"])
def test_simulated_evidence_is_refused_unless_insecurity_was_asked_for(level: str) -> None:
    document, _ = two_epochs()
    with pytest.raises(TcbUnacceptable, match="INSECURE"):
        verify_attestation(document, Constraint.parse(f"C:{CODE.hex()}{level}"))


@pytest.mark.parametrize(
    "text",
    [
        f"C:{'00' * 32} SEC:INSECURE",
        f"S:{'00' * 32} PROD:1 SEC:INSECURE",
        f"S:{DEFAULT_SIGNER.hex()} PROD:2 SEC:INSECURE",
        f"C:{CODE.hex()} SEC:INSECURE REVOKE:2",
    ],
)
def test_another_code_signer_product_or_version_is_refused(text: str) -> None:
    document, _ = two_epochs()
    with pytest.raises(IdentityMismatch):
        verify_attestation(document, Constraint.parse(text))


def test_old_evidence_is_refused_after_a_restart() -> None:
    old, new = two_epochs()
    with pytest.raises(ReportDataMismatch):
        verify_attestation(replace(new, evidence=old.evidence), INSECURE)


@pytest.mark.parametrize("field", ["store_id", "epoch", "checkpoint_key", "roster", "mail_key", "persistent"])
def test_evidence_is_refused_beside_anything_that_it_does_not_bind(field: str) -> None:
    document, other = two_epochs()[0], SealedStore.found(Counter, TEE).restart(Counter, TEE)[0].attestation
    value = {"roster": bytes(32), "persistent": False}.get(field, getattr(other, field))
    with pytest.raises(ReportDataMismatch):
        verify_attestation(replace(document, **{field: value}), INSECURE)  # type: ignore[arg-type]


def test_real_evidence_of_another_enclave_is_refused() -> None:
    document, _ = two_epochs()
    for sample in (TDX, SNP):
        stolen = replace(document, tee=sample.kind, evidence=sample.evidence)
        with pytest.raises(ReportDataMismatch):
            verify_attestation(stolen, INSECURE, at=sample.at, endorsements=sample.endorsements)


def test_evidence_under_another_name_is_refused() -> None:
    document, _ = two_epochs()
    for kind in ("sgx", "tdx", "snp", "nitro", "dstack", "", "unheard of"):
        with pytest.raises(AttestationError):
            verify_attestation(replace(document, tee=kind), INSECURE)
    with pytest.raises(EvidenceMalformed):
        verify_attestation(replace(document, evidence=document.evidence[:-1]), INSECURE)
