"""SGX under Gramine: the pseudo-files of ``/dev/attestation``.

Gramine derives its sealing keys from the CPU's and the enclave's present security versions, so a microcode update or
a higher ``isvsvn`` gives another key: hand the store over before (``docs/attestation.md``). They have 128 bits.

Source: Gramine, "Attestation and Secret Provisioning".
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pmap.tee import CODE, SIGNER, SealPolicy
from pmap.tee.files import check_report_data, check_seal_policy, read_file, write_file
from wire.crypto import derive_key
from wire.errors import TeeUnavailable
from wire.identity import Identity
from wire.limits import MAX_EVIDENCE_BYTES
from wire.tee.intel_quote import Quote
from wire.tee.verify import show_evidence

_KEY_BYTES: Final = 16
_KEY_FILES: Final = {CODE: "_sgx_mrenclave", SIGNER: "_sgx_mrsigner"}
_MAX_TYPE_BYTES: Final = 32


class GramineSgx:
    """An SGX enclave that Gramine runs."""

    name = "sgx"

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises :class:`TeeUnavailable` where there is no Gramine with DCAP attestation."""
        self._folder = root / "dev" / "attestation"
        if not self._folder.is_dir():
            raise TeeUnavailable(
                f"there is no {self._folder}: this process does not run under Gramine. To serve an enclave that does,"
                " name the program that starts it: --enclave-command 'gramine-sgx ...'"
            )
        kind = read_file(self._folder / "attestation_type", _MAX_TYPE_BYTES).strip(b"\0\n ").decode("ascii", "replace")
        if kind != "dcap":
            raise TeeUnavailable(f'Gramine attests by {kind!r}: set sgx.remote_attestation = "dcap" in the manifest')

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """See :class:`pmap.tee.Tee`."""
        file = _KEY_FILES[check_seal_policy(policy)]
        key = read_file(self._folder / "keys" / file, _KEY_BYTES)
        if len(key) != _KEY_BYTES or not any(key):
            raise TeeUnavailable(f"Gramine gives no sealing key in keys/{file}")
        return derive_key(key, b"", b"gramine sealing", policy.encode())

    def evidence(self, report_data: bytes) -> bytes:
        """A quote."""
        write_file(self._folder / "user_report_data", check_report_data(report_data))
        quote = Quote.parse(read_file(self._folder / "quote", MAX_EVIDENCE_BYTES))
        if quote.tee != self.name or quote.body.report_data != report_data:
            # Two threads that use the pseudo-files at once would get each other's quotes.
            raise TeeUnavailable("Gramine's quote is over other report data than was asked for")
        return quote.data

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        write_file(self._folder / "user_report_data", bytes(64))
        return show_evidence(self.name, read_file(self._folder / "quote", MAX_EVIDENCE_BYTES))
