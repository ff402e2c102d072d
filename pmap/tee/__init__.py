"""What the enclave asks of the TEE that it runs in: a sealing key, evidence, its own identity. One module per kind.

Every module takes the folder that the platform's files are under (``root``), so that it is tested on a made-up one.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

from wire.identity import Identity

SealPolicy: TypeAlias = Literal["code", "signer"]
"""Who gets the sealing key: the very same code only, or whatever the same signer answers for."""
CODE: Final = "code"
SIGNER: Final = "signer"


class Tee(Protocol):
    """The door to the platform. Everything raises :class:`wire.errors.TeeUnavailable` where the platform refuses."""

    @property
    def name(self) -> str:
        """The kind of evidence, as it stands in the attestation document."""

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """32 bytes that only this code, or this signer's code, gets on this platform.

        Raises :class:`wire.errors.InvalidInput` for a policy that this kind of TEE cannot enforce.
        """

    def evidence(self, report_data: bytes) -> bytes:
        """Evidence of this enclave's identity over 64 bytes of report data. Made anew by each call."""

    def identity(self) -> Identity:
        """This enclave as its evidence states it, unverified: the enclave has it from its own platform."""


class KeySource(Protocol):
    """Where the sealing key comes from on platforms that have none of their own (TDX, Nitro)."""

    def key(self, policy: SealPolicy) -> bytes:
        """32 bytes. Raises :class:`wire.errors.TeeUnavailable` and :class:`wire.errors.InvalidInput`."""
