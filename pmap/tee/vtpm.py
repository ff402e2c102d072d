"""A sealing key from a virtual TPM, through ``tpm2-pytss`` (extra ``tpm``), for guests whose CPU gives none.

The key is the HMAC of a constant under a primary key that exists in the TPM only: derived from its owner seed and a
template that holds a PCR policy. So nothing is stored, and nothing that a host stores can be swapped; another boot
(other PCRs) has another policy, hence another key, and cannot use this one. What PCRs measure is the guest's firmware's
business; whether the TPM itself is out of the host's reach is its paravisor's (``docs/attestation.md``).

Source: TCG, TPM 2.0 Library, Part 3 (CreatePrimary, PolicyPCR, HMAC).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pmap.tee import CODE, SealPolicy
from pmap.tee.files import check_seal_policy
from wire.crypto import KEY_BYTES, derive_key
from wire.errors import InvalidInput, TeeUnavailable

CODE_PCRS: Final = (0, 2, 4, 7, 8, 9, 11, 12)
"""Firmware, option ROMs, boot loader, secure boot state, command line, kernel and initrd, unified kernel image."""
SIGNER_PCRS: Final = (7,)
"""Secure boot state: whose signatures the firmware accepts, and whose it saw."""
_MAX_PCR: Final = 23
_LABEL: Final = b"pmap/1 vtpm sealing key"


class VtpmKey:
    """A :class:`pmap.tee.KeySource`."""

    def __init__(
        self,
        tcti: str = "device:/dev/tpmrm0",
        *,
        code_pcrs: Sequence[int] = CODE_PCRS,
        signer_pcrs: Sequence[int] = SIGNER_PCRS,
    ) -> None:
        """``tcti``: how to reach the TPM, in tpm2-tss' notation. Raises :class:`InvalidInput`."""
        for pcrs in (code_pcrs, signer_pcrs):
            if not pcrs or any(not 0 <= pcr <= _MAX_PCR for pcr in pcrs) or len(set(pcrs)) != len(pcrs):
                raise InvalidInput(f"PCRs are different numbers from 0 to {_MAX_PCR}, at least one")
        self._tcti = tcti
        self._code_pcrs = tuple(sorted(code_pcrs))
        self._signer_pcrs = tuple(sorted(signer_pcrs))

    def key(self, policy: SealPolicy) -> bytes:
        """See :class:`pmap.tee.KeySource`."""
        pcrs = self._code_pcrs if check_seal_policy(policy) == CODE else self._signer_pcrs
        try:
            import tpm2_pytss
        except (ImportError, NotImplementedError) as error:
            raise TeeUnavailable("a vTPM needs the package tpm2-pytss: install pmap[tpm] and tpm2-tss") from error
        try:
            with tpm2_pytss.ESAPI(self._tcti) as tpm:
                made = _hmac_under_policy(tpm2_pytss, tpm, pcrs)
        except (tpm2_pytss.TSS2_Exception, RuntimeError, ValueError) as error:
            raise TeeUnavailable(f"the vTPM at {self._tcti} gives no key: {error}") from error
        if len(made) != KEY_BYTES:
            raise TeeUnavailable(f"the vTPM at {self._tcti} gave {len(made)} bytes for a key")
        return derive_key(made, b"", b"vtpm sealing", policy.encode())


def _hmac_under_policy(tss: Any, tpm: Any, pcrs: Sequence[int]) -> bytes:
    """HMAC-SHA256 of our label under the primary key that belongs to these PCRs' present values (32 bytes)."""
    selection = tss.TPML_PCR_SELECTION.parse("sha256:" + ",".join(map(str, pcrs)))
    # The salt makes the key cross to us encrypted: who merely watches the TPM's channel does not see it.
    salting, *_ = tpm.create_primary(tss.TPM2B_SENSITIVE_CREATE(), "ecc256")
    handles = [salting]
    try:
        policy = _policy_digest(tss, tpm, selection)
        template = tss.TPM2B_PUBLIC(
            tss.TPMT_PUBLIC(
                type=tss.TPM2_ALG.KEYEDHASH,
                nameAlg=tss.TPM2_ALG.SHA256,
                # No USERWITHAUTH: the policy is the only way to use the key.
                objectAttributes=tss.TPMA_OBJECT.FIXEDTPM
                | tss.TPMA_OBJECT.FIXEDPARENT
                | tss.TPMA_OBJECT.SENSITIVEDATAORIGIN
                | tss.TPMA_OBJECT.ADMINWITHPOLICY
                | tss.TPMA_OBJECT.NODA
                | tss.TPMA_OBJECT.SIGN_ENCRYPT,
                authPolicy=policy,
            )
        )
        template.publicArea.parameters.keyedHashDetail.scheme.scheme = tss.TPM2_ALG.HMAC
        template.publicArea.parameters.keyedHashDetail.scheme.details.hmac.hashAlg = tss.TPM2_ALG.SHA256
        key, *_ = tpm.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template)
        handles.append(key)
        session = _session(tss, tpm, tss.TPM2_SE.POLICY, salting)
        handles.append(session)
        tpm.policy_pcr(session, tss.TPM2B_DIGEST(), selection)
        return bytes(tpm.hmac(key, tss.TPM2B_MAX_BUFFER(_LABEL), tss.TPM2_ALG.SHA256, session1=session))
    finally:
        for handle in reversed(handles):
            tpm.flush_context(handle)


def _policy_digest(tss: Any, tpm: Any, selection: Any) -> Any:
    trial = _session(tss, tpm, tss.TPM2_SE.TRIAL, tss.ESYS_TR.NONE)
    try:
        tpm.policy_pcr(trial, tss.TPM2B_DIGEST(), selection)
        return tpm.policy_get_digest(trial)
    finally:
        tpm.flush_context(trial)


def _session(tss: Any, tpm: Any, kind: Any, salting: Any) -> Any:
    symmetric = tss.TPMT_SYM_DEF(
        algorithm=tss.TPM2_ALG.AES,
        keyBits=tss.TPMU_SYM_KEY_BITS(aes=128),
        mode=tss.TPMU_SYM_MODE(aes=tss.TPM2_ALG.CFB),
    )
    session = tpm.start_auth_session(
        tpm_key=salting,
        bind=tss.ESYS_TR.NONE,
        session_type=kind,
        symmetric=symmetric,
        auth_hash=tss.TPM2_ALG.SHA256,
    )
    if kind == tss.TPM2_SE.POLICY:
        attributes = tss.TPMA_SESSION.ENCRYPT | tss.TPMA_SESSION.CONTINUESESSION
        tpm.trsess_set_attributes(session, attributes)
    return session
