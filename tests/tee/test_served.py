"""An enclave in a TEE of each kind, from command line to client: evidence made afresh, the platform's own keys."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tee_machines import Server, document_of, machine, pmap

from client.kv import KeyValueClient
from wire.errors import EvidenceMalformed, IdentityMismatch, ReportDataMismatch, TcbUnacceptable, UntrustedRoot
from wire.tee.verify import show_evidence

ENCLAVES = """
from pmap.kv import KeyValueEnclave

class Code(KeyValueEnclave):
    seal_to = "code"

class Signer(KeyValueEnclave):
    seal_to = "signer"
"""
KINDS = [("gramine", "sgx"), ("snp", "snp"), ("tdx", "tdx"), ("dstack", "dstack"), ("nitro", "nitro")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sealed.py").write_text(ENCLAVES)
    (tmp_path / "provisioned.key").write_bytes(os.urandom(32))
    return tmp_path


def arguments(kind: str, folder: Path) -> list[str]:
    enclave = "sealed:Signer" if kind == "dstack" else "sealed:Code"
    source = ["--key-source", f"file:{folder}/provisioned.key"] if kind in ("tdx", "nitro") else []
    return [enclave, "--store", "store", *source]


@pytest.mark.parametrize(("kind", "evidence"), KINDS, ids=[kind for kind, _ in KINDS])
def test_an_enclave_is_served_in_its_tee_and_clients_check_who_it_is(
    folder: Path, start: Callable[..., Server], kind: str, evidence: str
) -> None:
    with machine(kind, folder / "machine") as here:
        server = start(*arguments(kind, folder), *here.arguments())
        assert f"TEE:     {evidence}." in server.said and "NOT the machine's own" in server.said
        document = document_of(server)
        code = f"C:{show_evidence(evidence, document.evidence).measurement.hex()}"
        state = folder / "alice.state"

        def connect(constraint: str, **settings: object) -> KeyValueClient:
            return KeyValueClient.connect(server.url, constraint=constraint, **settings)

        with connect(code, endorsements=here.endorsements, state=state) as alice:
            alice["greeting"] = b"hello"
            identity = alice.client.identity
            assert identity is not None and identity.tee == evidence
        # Before anything leaves a client: no root that was named, another code, or evidence that is not judged.
        with pytest.raises((UntrustedRoot, EvidenceMalformed)):
            connect(code)
        with pytest.raises(IdentityMismatch):
            connect("C:" + "00" * 32, endorsements=here.endorsements)
        if kind == "snp":
            (here.endorsements / "least-amd-firmware").write_text("9,9,99,255")
            with pytest.raises(TcbUnacceptable):
                connect(code, endorsements=here.endorsements)
            (here.endorsements / "least-amd-firmware").unlink()
            code += " SEC:STALE"
        server.stop()
        # The TEE gives the same key to the same code: the store opens again, and the client goes on.
        server = start(*arguments(kind, folder), *here.arguments())
        said = pmap(
            folder, "get", "greeting", "--url", server.url, "--state", state, "--constraint", code,
            "--endorsements", here.endorsements,
        )  # fmt: skip
        assert said == "hello"
        again = document_of(server)
        assert again.epoch != document.epoch and again.evidence != document.evidence


def test_a_tdx_guest_seals_with_its_tpm(folder: Path, start: Callable[..., Server]) -> None:
    pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is built where libtss2-dev is")
    from software_tpm import running_tpm

    with running_tpm(folder / "tpm") as address, machine("tdx", folder / "machine") as here:
        served = ["sealed:Code", "--store", "store", "--key-source", f"vtpm:{address}", *here.arguments()]
        for expected in ("1", "2"):
            server = start(*served)
            document = document_of(server)
            code = f"C:{show_evidence('tdx', document.evidence).measurement.hex()}"
            with KeyValueClient.connect(server.url, constraint=code, endorsements=here.endorsements) as client:
                client[expected] = b""
                assert len(list(client.scan())) == int(expected)
            server.stop()


def test_a_tee_that_is_not_there_is_a_sentence(folder: Path) -> None:
    (folder / "empty").mkdir()
    for kind, words in (("gramine", "Gramine"), ("snp", "confidential VM"), ("dstack", "agent"), ("nitro", "Nitro")):
        said = pmap(folder, "serve", "sealed:Signer", "--store", "s", "--tee", kind, "--tee-root", "empty", code=1)
        assert "Error: " in said and words in said and "Traceback" not in said


def test_evidence_of_one_epoch_is_refused_in_another(folder: Path, start: Callable[..., Server]) -> None:
    with machine("nitro", folder / "machine") as here:
        server = start(*arguments("nitro", folder), *here.arguments())
        old = document_of(server)
        server.stop()
        server = start(*arguments("nitro", folder), *here.arguments())
        from dataclasses import replace

        from client.verification import verify_attestation
        from wire.constraint import Constraint
        from wire.tee.endorsements import Endorsements

        new = document_of(server)
        told = Endorsements.of_files({"root.pem": (here.endorsements / "root.pem").read_bytes()})
        constraint = Constraint.parse(f"C:{'33' * 48}")
        verify_attestation(new, constraint, endorsements=told)
        with pytest.raises(ReportDataMismatch):
            verify_attestation(replace(new, evidence=old.evidence), constraint, endorsements=told)


def test_an_enclave_that_a_program_of_its_own_starts(folder: Path, start: Callable[..., Server]) -> None:
    program = shlex.join([sys.executable, "-m", "pmap", "--simulated-key", "k", "--", "sealed:Signer"])
    server = start("--store", "store", "--enclave-command", program)
    assert "SIMULATED" in server.said and "sealed:Signer" in server.said
    with KeyValueClient.connect(server.url, constraint="SEC:INSECURE") as client:
        client["a"] = b"1"
    said = pmap(folder, "serve", "--store", "s", "--enclave-command", program, "--tee", "snp", code=2)
    assert "says by itself" in said
