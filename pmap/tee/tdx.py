"""TDX: quotes through configfs-tsm. The CPU derives no sealing keys: they come from a key source (a vTPM, a file)."""

from __future__ import annotations

from pathlib import Path

from pmap.tee import SIGNER, KeySource, SealPolicy
from pmap.tee.configfs import TsmReports
from pmap.tee.files import check_seal_policy
from wire.errors import AttestationError, InvalidInput, TeeUnavailable
from wire.identity import Identity
from wire.tee.intel_quote import Quote
from wire.tee.verify import show_evidence


class Tdx:
    """A TDX guest, all of which is the enclave."""

    name = "tdx"

    def __init__(self, root: Path = Path("/"), key_source: KeySource | None = None) -> None:
        """Raises :class:`TeeUnavailable`."""
        self._reports = TsmReports(root)
        self._key_source = key_source

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """See :class:`pmap.tee.Tee`."""
        check_seal_policy(policy)
        if self._key_source is None:
            raise InvalidInput("TDX has no sealing key of its own: give it a vTPM or another key source")
        return self._key_source.key(policy)

    def evidence(self, report_data: bytes) -> bytes:
        """A quote, without what the kernel pads it with."""
        report = self._reports.report("tdx_guest", report_data)
        try:
            quote = Quote.parse(report.outblob)
        except AttestationError as error:
            raise TeeUnavailable(f"the kernel's TDX quote is malformed: {error}") from error
        if quote.tee != self.name or quote.body.report_data != report_data:
            raise TeeUnavailable("the TDX quote is over other report data than was asked for")
        return quote.data

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        return show_evidence(self.name, self._reports.report("tdx_guest", bytes(64)).outblob)
