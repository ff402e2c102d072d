"""The vendors' root keys that are trusted without being told so: SHA-256 of their SubjectPublicKeyInfo (DER).

Only roots that ship with this project's test vectors stand here, so that a test recomputes each of them. Others
(AMD's for Genoa and Turin) are given by the caller, who got them from the vendor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

INTEL_SGX_ROOT: Final = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""Intel SGX Root CA: SGX and TDX."""
AMD_ARK_MILAN: Final = bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9")
"""ARK-Milan: SEV-SNP on EPYC 7003."""
AWS_NITRO_ROOT: Final = bytes.fromhex("f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225")
"""aws.nitro-enclaves."""

BUILT_IN: Final[Mapping[bytes, str]] = {
    INTEL_SGX_ROOT: "Intel SGX Root CA",
    AMD_ARK_MILAN: "AMD ARK-Milan",
    AWS_NITRO_ROOT: "AWS Nitro Enclaves",
}
"""What they are called."""
