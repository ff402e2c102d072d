"""What the enclave asks of the TEE that it runs in: a sealing key and evidence. One module per kind of TEE."""

from __future__ import annotations

from typing import Protocol


class Tee(Protocol):
    """The door to the platform."""

    @property
    def name(self) -> str:
        """The kind of evidence, as it stands in the attestation document."""

    def sealing_key(self) -> bytes:
        """32 bytes that only this enclave identity on this platform gets."""

    def evidence(self, report_data: bytes) -> bytes:
        """Evidence of this enclave's identity over 64 bytes of report data."""
