"""``pmap attest``: what people are told of evidence."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tee_vectors import FOLDER, NITRO, SGX, SNP, TDX

from client.attest_commands import attest, register
from pmap.tee.simulated import SimulatedTee
from wire.attestation import Attestation
from wire.errors import (
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    IdentityMismatch,
    InvalidInput,
    ReportDataMismatch,
    TcbUnacceptable,
    UntrustedRoot,
)
from wire.hpke import Kem, MailPublicKey

CERTIFICATES = [
    argument
    for name in ("snp_ark_milan.pem", "snp_vcek_milan.der", "snp_ask_milan.pem")
    for argument in ("--certificate", str(FOLDER / name))
]
SGX_ARGUMENTS = [
    str(FOLDER / "sgx_quote.bin"), "--collateral", str(FOLDER / "sgx_collateral.json"), "--at", str(SGX.at),
]  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(attest, list(arguments))


def refusal(*arguments: str) -> type[BaseException]:
    result = run(*arguments)
    assert result.exit_code != 0 and result.exception is not None, result.output
    return type(result.exception)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sgx_quote.bin", ["sgx", "33d8736db756ed4997e04ba358d27833", "815f42f11cf64430c30bab7816ba596a"]),
        ("tdx_quote.bin", ["tdx", "RTMR3", "91eb2b44d141d4ece09f0c75c2c53d24"]),
        ("snp_report_milan.hex", ["snp", "7a1e5c266c0108dbc9bb94fa92695132", "boot loader 3"]),
        ("nitro_document.bin", ["nitro", "i-020b6af9246d90e92-enc0183d09086c24190", "PCR8"]),
    ],
)
def test_show_names_what_the_evidence_says_and_that_it_is_not_verified(name: str, words: list[str]) -> None:
    result = run("show", str(FOLDER / name))
    assert result.exit_code == 0, result.output
    assert result.output.startswith("NOT VERIFIED")
    assert [word for word in words if word not in result.output] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (SGX_ARGUMENTS, ["STALE (ConfigurationAndSWHardeningNeeded)", "INTEL-SA-00289"]),
        (
            [str(FOLDER / "tdx_quote.bin"), "--collateral", str(FOLDER / "tdx_collateral.json"), "--at", str(TDX.at)],
            ["SECURE (UpToDate)"],
        ),
        (
            [str(FOLDER / "snp_report_milan.hex"), *CERTIFICATES, "--at", str(SNP.at), "--least-tcb", "3,0,8,115"],
            ["SECURE", "VMPL"],
        ),
        ([str(FOLDER / "nitro_document.bin"), "--at", "2022-10-13T08:58:20Z"], ["SECURE (operated by AWS)"]),
    ],
    ids=["sgx", "tdx", "snp", "nitro"],
)
def test_verify_says_that_the_recorded_evidence_is_genuine(arguments: list[str], words: list[str]) -> None:
    result = run("verify", *arguments)
    assert result.exit_code == 0, result.exception
    assert result.output.startswith("GENUINE")
    assert "report data) was not checked" in result.output
    assert [word for word in words if word not in result.output] == []


def test_verify_checks_a_constraint() -> None:
    signer = "S:815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6 PROD:0"
    assert "meets the constraint" in run("verify", *SGX_ARGUMENTS, "--constraint", f"{signer} SEC:STALE").output
    assert refusal("verify", *SGX_ARGUMENTS, "--constraint", signer) is TcbUnacceptable
    assert refusal("verify", *SGX_ARGUMENTS, "--constraint", f"C:{'00' * 32} SEC:STALE") is IdentityMismatch
    assert refusal("verify", *SGX_ARGUMENTS, "--constraint", "whatever") is InvalidInput


def test_verify_checks_the_report_data() -> None:
    right = b"Hello, world!".ljust(64, b"\0").hex()
    assert "not checked" not in run("verify", *SGX_ARGUMENTS, "--report-data", right).output
    assert refusal("verify", *SGX_ARGUMENTS, "--report-data", "00" * 64) is ReportDataMismatch
    assert refusal("verify", *SGX_ARGUMENTS, "--report-data", "hello") is InvalidInput


def test_verify_refuses_for_the_reason_that_there_is() -> None:
    nitro = str(FOLDER / "nitro_document.bin")
    assert refusal("verify", nitro) is EvidenceExpired
    assert refusal("verify", nitro, "--at", "yesterday") is InvalidInput
    assert refusal("verify", str(FOLDER / "sgx_quote.bin")) is EvidenceMalformed
    assert refusal("verify", str(FOLDER / "snp_report_milan.hex"), *CERTIFICATES[:2]) is EvidenceMalformed
    milan = str(FOLDER / "snp_report_milan.hex")
    assert refusal("verify", milan, *CERTIFICATES, *CERTIFICATES[:2]) is EvidenceForged
    assert refusal("verify", str(FOLDER / "snp_report_milan.hex"), *CERTIFICATES, "--least-tcb", "1") is InvalidInput
    assert refusal("verify", nitro, "--kind", "sgx") is EvidenceMalformed
    assert refusal("show", str(FOLDER / "README.md")) is EvidenceMalformed


def test_a_whole_attestation_document_brings_the_report_data_along(tmp_path: Path) -> None:
    tee = SimulatedTee(bytes(32), bytes(32))
    unsigned = Attestation(
        bytes(16), bytes(32), MailPublicKey(Kem.X25519, bytes(32)), bytes(32), True, bytes(32), tee.name, b""
    )
    for bound, expected in ((unsigned.report_data(), None), (bytes(64), ReportDataMismatch)):
        document = Attestation(
            bytes(16), bytes(32), unsigned.mail_key, bytes(32), True, bytes(32), tee.name, tee.evidence(bound)
        )
        (tmp_path / "document").write_bytes(document.encode())
        result = run("verify", str(tmp_path / "document"))
        assert (type(result.exception) if result.exception else None) is expected
        assert expected or result.output.startswith("SIMULATED")


def test_a_truncated_file_is_malformed_and_an_endless_one_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(NITRO.evidence[:-1])
    assert refusal("verify", str(tmp_path / "short")) is EvidenceMalformed
    (tmp_path / "long").write_bytes(bytes(10_000_000))
    assert refusal("show", str(tmp_path / "long")) is InvalidInput


def test_nothing_in_evidence_reaches_the_terminal_as_a_control_character(tmp_path: Path) -> None:
    from tee_authority import Issuer, nitro_document

    root = Issuer("root")
    document = nitro_document([Issuer("leaf", root, ca=False), root], module_id="i-0\x1b[2J\x07\u202e")
    (tmp_path / "document").write_bytes(document)
    output = run("show", str(tmp_path / "document")).output
    assert "i-0" in output
    assert all(char.isprintable() or char == "\n" for char in output)


def test_the_commands_register_with_a_group() -> None:
    @click.group()
    def root() -> None:
        pass

    register(root)
    assert CliRunner().invoke(root, ["attest", "--help"]).exit_code == 0


def test_certificates_are_taken_as_people_keep_them(tmp_path: Path) -> None:
    pem = (FOLDER / "snp_ark_milan.pem").read_bytes()
    (tmp_path / "ark.pem").write_bytes(b"Subject: ARK-Milan\r\n" + pem.replace(b"\n", b"\r\n") + b"\r\n")
    arguments = [CERTIFICATES[0], str(tmp_path / "ark.pem"), *CERTIFICATES[2:], "--at", str(SNP.at)]
    assert "AMD ARK-Milan" in run("verify", str(FOLDER / "snp_report_milan.hex"), *arguments).output
    (tmp_path / "ark.pem").write_bytes(pem.replace(b"A", b"*"))
    assert refusal("verify", str(FOLDER / "snp_report_milan.hex"), *arguments) is InvalidInput


def test_a_root_that_only_the_verifier_trusts_is_shown_as_such(tmp_path: Path) -> None:
    from tee_authority import NOW, Issuer, nitro_document

    root = Issuer("root")
    (tmp_path / "document").write_bytes(nitro_document([Issuer("leaf", root, ca=False), root]))
    (tmp_path / "root.der").write_bytes(root.certificate.der)
    verify = ["verify", str(tmp_path / "document"), "--at", str(NOW)]
    assert refusal(*verify) is UntrustedRoot
    output = run(*verify, "--root", str(tmp_path / "root.der")).output
    assert f"NOT BUILT IN, trusted because the verifier named it: {root.certificate.fingerprint.hex()}" in output
