"""Sealing keys from a real software TPM (swtpm)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from software_tpm import running_tpm, start_tpm

from pmap.tee import CODE, SIGNER, vtpm
from pmap.tee.vtpm import VtpmKey
from wire.errors import InvalidInput, TeeUnavailable

tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed: it is built where libtss2-dev is")
if shutil.which("swtpm") is None:
    pytest.skip("there is no swtpm (Debian package swtpm)", allow_module_level=True)


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[str]:
    with running_tpm(tmp_path / "tpm") as address:
        yield address


def extend(address: str, pcr: int) -> None:
    """Measure something into a PCR, as another boot would."""
    with tss.ESAPI(address) as esapi:
        digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=b"x" * 32))
        esapi.pcr_extend(tss.ESYS_TR(pcr), tss.TPML_DIGEST_VALUES([digest]))


def test_the_same_boot_gets_the_same_key(tpm: str) -> None:
    source = VtpmKey(tpm)
    assert len(source.key(CODE)) == 32
    assert source.key(CODE) == VtpmKey(tpm).key(CODE)
    assert source.key(CODE) != source.key(SIGNER)


def test_other_code_gets_another_key_but_the_same_signers(tpm: str) -> None:
    source = VtpmKey(tpm)
    code, signer = source.key(CODE), source.key(SIGNER)
    extend(tpm, 11)
    assert source.key(CODE) != code
    assert source.key(SIGNER) == signer


def test_another_signer_gets_other_keys(tpm: str) -> None:
    source = VtpmKey(tpm)
    code, signer = source.key(CODE), source.key(SIGNER)
    extend(tpm, 7)
    assert source.key(CODE) != code
    assert source.key(SIGNER) != signer


def test_another_boot_cannot_use_this_boots_key(tpm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VtpmKey(tpm, code_pcrs=[11])
    source.key(CODE)
    with tss.ESAPI(tpm) as esapi:
        policy = vtpm._policy_digest(tss, esapi, tss.TPML_PCR_SELECTION.parse("sha256:11"))
    extend(tpm, 11)
    # The other boot knows the template and so has the very same key in the TPM: the policy keeps it from using it.
    monkeypatch.setattr(vtpm, "_policy_digest", lambda *_: policy)
    with pytest.raises(TeeUnavailable, match="policy"):
        source.key(CODE)


def test_a_tpm_that_restarted_gives_the_same_key_and_another_tpm_another(tmp_path: Path) -> None:
    keys = []
    for folder in ("one", "one", "two"):
        process, address = start_tpm(tmp_path / folder)
        keys.append(VtpmKey(address).key(CODE))
        process.terminate()
        process.wait()
        for name in ("sock", "sock.ctrl"):
            (tmp_path / folder / name).unlink(missing_ok=True)
    assert keys[0] == keys[1] != keys[2]


def test_no_objects_or_sessions_are_left_in_the_tpm(tpm: str) -> None:
    source = VtpmKey(tpm)
    assert len({source.key(CODE) for _ in range(8)}) == 1, "a TPM holds three objects and three sessions"


def test_without_a_tpm_there_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(TeeUnavailable):
        VtpmKey(f"swtpm:path={tmp_path}/none").key(CODE)


@pytest.mark.parametrize("pcrs", [[], [24], [-1], [7, 7]])
def test_impossible_pcrs_are_refused(pcrs: list[int]) -> None:
    with pytest.raises(InvalidInput):
        VtpmKey(code_pcrs=pcrs)
