"""The constraint language, and the checks of an attestation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import AttestationError, Constraint, Identity, InvalidInput, SecurityLevel
from client.verification import verify_attestation
from wire.attestation import Attestation
from wire.hpke import Kem, MailPublicKey
from wire.simulated import SimulatedEvidence

CODE, SIGNER = bytes(range(32)), bytes(range(32, 64))
IDENTITY = Identity(CODE, SIGNER, 7, 3, SecurityLevel.SECURE)
OTHER = "ab" * 32


def test_a_full_constraint_is_read_and_printed_back_identically() -> None:
    text = f"PROD:7 C:{CODE.hex()} SEC:STALE C:{OTHER} REVOKE:3 S:{SIGNER.hex()}"
    constraint = Constraint.parse(text)
    assert str(constraint) == text
    assert constraint.measurements == {CODE, bytes.fromhex(OTHER)}
    assert constraint.signers == {SIGNER}
    assert (constraint.product, constraint.lowest_version, constraint.level) == (7, 3, SecurityLevel.STALE)
    constraint.check(IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "SEC:SECURE",
        "SEC:STALE",
        "PROD:1",
        "C:",
        "C:" + "0" * 63,
        "C:" + "0" * 65,
        "C:" + "A" * 64,
        "C:" + "0" * 63 + "\n",
        "c:" + "0" * 64,
        "X:" + "0" * 64,
        "0" * 64,
        f"C:{OTHER}  SEC:SECURE",
        f" C:{OTHER}",
        f"C:{OTHER} ",
        f"C:{OTHER}\tSEC:SECURE",
        f"C:{OTHER} SEC:secure",
        f"C:{OTHER} SEC:",
        f"C:{OTHER} SEC:SECURE SEC:SECURE",
        f"C:{OTHER} PROD:1 PROD:1",
        f"C:{OTHER} PROD:01",
        f"C:{OTHER} PROD:-1",
        f"C:{OTHER} PROD:65536",
        f"C:{OTHER} PROD:१",
        f"C:{OTHER} REVOKE:1 REVOKE:2",
        f"C:{OTHER} REVOKE:x",
        f"S:{OTHER} " * 1000,
        None,
        b"SEC:INSECURE",
    ],
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Constraint.parse(text)


@given(st.text(alphabet="CSPRODEVK:0123456789ab INTALEU", max_size=150))
def test_whatever_parses_prints_back_identically(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except InvalidInput:
        return
    assert str(constraint) == text


@pytest.mark.parametrize(
    ("text", "identity", "sentence"),
    [
        (f"C:{OTHER}", IDENTITY, "runs other code"),
        (f"S:{OTHER}", IDENTITY, "signed by somebody"),
        (f"C:{CODE.hex()} S:{OTHER}", IDENTITY, "signed by somebody"),
        (f"C:{OTHER} S:{SIGNER.hex()}", IDENTITY, "runs other code"),
        (f"S:{SIGNER.hex()} PROD:8", IDENTITY, "product 7"),
        (f"S:{SIGNER.hex()} PROD:0", IDENTITY, "product 7"),
        (f"S:{SIGNER.hex()} REVOKE:4", IDENTITY, "revokes everything below 4"),
        (f"S:{SIGNER.hex()}", replace(IDENTITY, level=SecurityLevel.STALE), "STALE, the constraint asks for SECURE"),
        (f"S:{SIGNER.hex()} SEC:STALE", replace(IDENTITY, level=SecurityLevel.INSECURE), "is INSECURE"),
    ],
)
def test_an_enclave_outside_the_constraint_is_refused_in_words(text: str, identity: Identity, sentence: str) -> None:
    with pytest.raises(AttestationError, match=sentence):
        Constraint.parse(text).check(identity)


@pytest.mark.parametrize(
    "text",
    [
        f"C:{CODE.hex()}",
        f"C:{OTHER} C:{CODE.hex()}",
        f"S:{OTHER} S:{SIGNER.hex()} PROD:7",
        f"S:{SIGNER.hex()} REVOKE:3",
        f"S:{SIGNER.hex()} SEC:STALE",
        "SEC:INSECURE",
        "PROD:7 SEC:INSECURE",
    ],
)
def test_an_enclave_inside_the_constraint_is_accepted(text: str) -> None:
    Constraint.parse(text).check(IDENTITY)


# --- attestation ----------------------------------------------------------------------------------------------


def document(tee: str = "simulated", evidence: bytes | None = None) -> Attestation:
    mail_key = MailPublicKey(Kem.X25519, b"k" * 32)
    unsigned = Attestation(bytes(16), bytes(32), mail_key, b"c" * 32, True, bytes(32), tee, b"")
    simulated = SimulatedEvidence(CODE, SIGNER, 7, 3, unsigned.report_data()).encode()
    return replace(unsigned, evidence=simulated if evidence is None else evidence)


INSECURE = Constraint.parse(f"C:{CODE.hex()} SEC:INSECURE")


def test_simulated_evidence_is_worth_nothing_and_accepted_only_if_asked_for() -> None:
    identity = verify_attestation(document(), INSECURE)
    assert (identity.measurement, identity.signer, identity.level) == (CODE, SIGNER, SecurityLevel.INSECURE)
    assert (identity.product, identity.security_version) == (IDENTITY.product, IDENTITY.security_version)
    for text in (f"C:{CODE.hex()}", f"C:{CODE.hex()} SEC:STALE"):
        with pytest.raises(AttestationError, match="INSECURE"):
            verify_attestation(document(), Constraint.parse(text))


@pytest.mark.parametrize(
    "changed",
    [
        {"store_id": b"s" * 16},
        {"epoch": b"e" * 32},
        {"mail_key": MailPublicKey(Kem.X25519, b"K" * 32)},
        {"checkpoint_key": b"C" * 32},
        {"persistent": False},
        {"roster": b"r" * 32},
    ],
)
def test_evidence_about_another_document_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(AttestationError, match="about other keys"):
        verify_attestation(replace(document(), **changed), INSECURE)


def test_evidence_of_an_unknown_kind_or_form_is_refused() -> None:
    with pytest.raises(AttestationError, match="cannot check"):
        verify_attestation(document(tee="quantum"), INSECURE)
    for evidence in (b"", b"x", bytes(2000)):
        with pytest.raises(AttestationError, match="not that of a simulated TEE"):
            verify_attestation(document(evidence=evidence), INSECURE)
