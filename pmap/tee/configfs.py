"""The kernel's common interface to TEE reports, configfs-tsm: one for SEV-SNP and TDX guests.

A report is asked for by writing ``inblob`` in a folder made for it, and read from ``outblob``. Whatever else writes
to the folder meanwhile raises ``generation``. Source: Linux, Documentation/ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pmap.tee.files import check_report_data, read_file, write_file
from wire.errors import TeeUnavailable
from wire.limits import MAX_EVIDENCE_BYTES

_ENTRY: Final = "pmap"
_MAX_NUMBER_BYTES: Final = 32
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class TsmReport:
    """``provider``: the kernel driver (``sev_guest``, ``tdx_guest``); ``auxblob``: certificates, where it has them."""

    provider: str
    outblob: bytes
    auxblob: bytes


class TsmReports:
    """Where reports are asked for."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises :class:`TeeUnavailable` where the kernel offers no such reports."""
        reports = root / "sys" / "kernel" / "config" / "tsm" / "report"
        if not reports.is_dir():
            raise TeeUnavailable(
                f"there is no {reports}: this is no confidential VM, configfs is not mounted, or its kernel is too old"
            )
        self._folder = reports / _ENTRY

    def report(self, provider: str, report_data: bytes) -> TsmReport:
        """Ask for a report over 64 bytes.

        A report that another process disturbed, by asking at the same time, is asked for again.

        Raises :class:`TeeUnavailable`: refused, of another provider than the one asked for, or disturbed each time.
        """
        for _ in range(_ATTEMPTS):
            report = self._undisturbed(provider, report_data)
            if report is not None:
                return report
        raise TeeUnavailable(f"other processes asked for reports at the same time, {_ATTEMPTS} times in a row")

    def _undisturbed(self, provider: str, report_data: bytes) -> TsmReport | None:
        try:
            # Kept for the next time: the kernel makes the files in it, and removes them only with it.
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise TeeUnavailable(f"cannot make {self._folder}: {error.strerror or error}") from error
        write_file(self._folder / "inblob", check_report_data(report_data))
        generation = self._text("generation")
        found = self._text("provider")
        if found != provider:
            raise TeeUnavailable(f"the kernel's reports are made by {found!r}, not by {provider!r}")
        outblob = read_file(self._folder / "outblob", MAX_EVIDENCE_BYTES)
        aux = self._folder / "auxblob"
        auxblob = read_file(aux, MAX_EVIDENCE_BYTES) if aux.exists() else b""
        if self._text("generation") != generation:
            return None
        return TsmReport(found, outblob, auxblob)

    def _text(self, name: str) -> str:
        return read_file(self._folder / name, _MAX_NUMBER_BYTES).decode("ascii", "replace").strip()
