"""The SEV-SNP attestation report, versions 2 to 5, field by field.

Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (document 56860), "ATTESTATION_REPORT". 1184 bytes,
little-endian, all of it covered by the signature at its end, which is parsed by :mod:`wire.tee.snp`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from wire.errors import EvidenceMalformed
from wire.identity import Identity, SecurityLevel

REPORT_BYTES: Final = 1184
SIGNED_BYTES: Final = 0x2A0
VERSIONS: Final = range(2, 6)
_VERSION_WITH_CPUID: Final = 3
_VERSION_WITH_MITIGATIONS: Final = 5
_ECDSA_P384_SHA384: Final = 1
_MAX_VMPL: Final = 3
_FAMILY_TURIN: Final = 0x1A
_NO_MIGRATION_AGENT: Final = b"\xff" * 32
_POLICY_RESERVED_ONE: Final = 1 << 17
_POLICY_DEBUG: Final = 1 << 19
_FLAG_MASK_CHIP_KEY: Final = 1 << 1
_FLAGS_DEFINED: Final = 0x1F


@dataclass(frozen=True, slots=True)
class SnpTcb:
    """Security versions of the platform's firmware. ``fmc`` exists from Turin (family 1Ah) on; else it is 0."""

    boot_loader: int
    tee: int
    snp: int
    microcode: int
    fmc: int = 0

    @classmethod
    def decode(cls, data: bytes, *, turin: bool) -> SnpTcb:
        """Read TCB_VERSION (8 bytes). Raises :class:`EvidenceMalformed`."""
        if turin:
            fmc, boot_loader, tee, snp, reserved, microcode = struct.unpack("<BBBB3sB", data)
        else:
            boot_loader, tee, reserved, snp, microcode = struct.unpack("<BB4sBB", data)
            fmc = 0
        if any(reserved):
            raise EvidenceMalformed("an SNP report with reserved bytes set in a TCB version")
        return cls(boot_loader, tee, snp, microcode, fmc)

    def covers(self, least: SnpTcb) -> bool:
        """Whether no part is older than in ``least``."""
        return all(getattr(self, part) >= getattr(least, part) for part in SnpTcb.__slots__)

    def __str__(self) -> str:
        return f"boot loader {self.boot_loader}, TEE {self.tee}, SNP {self.snp}, microcode {self.microcode}" + (
            f", FMC {self.fmc}" if self.fmc else ""
        )


@dataclass(frozen=True, slots=True)
class SnpReport:
    """A parsed report. Nothing of it is verified yet."""

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    migration_agent: bytes
    """The migration agent's report id (32 bytes); None of them if there is no agent."""
    reported_tcb: SnpTcb
    committed_tcb: SnpTcb
    chip_id: bytes
    """64 bytes; zero where the platform's owner masks it."""
    signed_by_vlek: bool
    """Whether a key of the cloud provider (VLEK) signed, and not the chip's own (VCEK)."""

    @classmethod
    def parse(cls, untrusted: bytes) -> SnpReport:
        """Raises :class:`EvidenceMalformed`."""
        if len(untrusted) != REPORT_BYTES:
            raise EvidenceMalformed(f"an SNP report has {REPORT_BYTES} bytes, not {len(untrusted)}")
        data = untrusted
        version, guest_svn, policy = struct.unpack_from("<IIQ", data, 0)
        vmpl, algorithm = struct.unpack_from("<II", data, 0x30)
        flags, reserved = struct.unpack_from("<II", data, 0x48)
        if version not in VERSIONS:
            raise EvidenceMalformed(
                f"an SNP report of version {version}; this code reads {VERSIONS[0]} to {VERSIONS[-1]}"
            )
        if algorithm != _ECDSA_P384_SHA384 or flags & ~_FLAGS_DEFINED or reserved:
            raise EvidenceMalformed("an SNP report with an unknown signature algorithm or key")
        if vmpl > _MAX_VMPL:
            raise EvidenceMalformed("an SNP report that the host asked for, not the guest")
        if not policy & _POLICY_RESERVED_ONE:
            raise EvidenceMalformed("an SNP report with an impossible guest policy")
        signing_key = flags >> 2
        if flags & _FLAG_MASK_CHIP_KEY or signing_key > 1:
            raise EvidenceMalformed("an SNP report that no key signed (MASK_CHIP_KEY)")
        _check_reserved(data, version)
        turin = version >= _VERSION_WITH_CPUID and data[0x188] >= _FAMILY_TURIN
        for offset in (0x38, 0x1F0):  # the current and the launch TCB: of interest to nobody here, but well formed
            SnpTcb.decode(data[offset : offset + 8], turin=turin)
        return cls(
            version,
            guest_svn,
            policy,
            data[0x10:0x20],
            data[0x20:0x30],
            vmpl,
            data[0x50:0x90],
            data[0x90:0xC0],
            data[0xC0:0xE0],
            data[0xE0:0x110],
            data[0x110:0x140],
            data[0x140:0x160],
            data[0x160:0x180],
            SnpTcb.decode(data[0x180:0x188], turin=turin),
            SnpTcb.decode(data[0x1E0:0x1E8], turin=turin),
            data[0x1A0:0x1E0],
            signing_key == 1,
        )

    @property
    def debug(self) -> bool:
        """Whether the guest's policy lets the host decrypt its memory."""
        return bool(self.policy & _POLICY_DEBUG)

    def identity(self, least: SnpTcb | None) -> Identity:
        """The identity that this report states; ``least``: the firmware that counts as up to date."""
        if self.migration_agent != _NO_MIGRATION_AGENT:
            # Such an agent may take the guest's memory elsewhere, and so make a clone of it.
            security, status = SecurityLevel.INSECURE, "has a migration agent"
        elif least is None:
            security, status = SecurityLevel.STALE, "firmware not judged: no least TCB was given"
        elif self.reported_tcb.covers(least):
            security, status = SecurityLevel.SECURE, "firmware covers the least TCB"
        else:
            security, status = SecurityLevel.STALE, "firmware is below the least TCB"
        return Identity(
            self.measurement,
            self.id_key_digest if any(self.id_key_digest) else None,
            0,
            self.guest_svn,
            security,
            "snp",
            self.report_data,
            status,
            self.debug,
            details=(
                ("guest policy", f"{self.policy:#x}"),
                ("VMPL", str(self.vmpl)),
                ("reported TCB", str(self.reported_tcb)),
                ("author key", self.author_key_digest.hex()),
                ("host data", self.host_data.hex()),
                ("family and image id", f"{self.family_id.hex()} {self.image_id.hex()}"),
                ("chip", self.chip_id.hex()),
            ),
        )


def _check_reserved(data: bytes, version: int) -> None:
    reserved = [
        data[0x18B if version >= _VERSION_WITH_CPUID else 0x188 : 0x1A0],
        data[0x1EB:0x1EC],
        data[0x1EF:0x1F0],
        data[0x208 if version >= _VERSION_WITH_MITIGATIONS else 0x1F8 : SIGNED_BYTES],
    ]
    if any(map(any, reserved)):
        raise EvidenceMalformed("an SNP report with reserved bytes set")
