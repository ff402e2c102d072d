"""The vendors' root keys that are trusted without being told so: SHA-256 of their SubjectPublicKeyInfo (DER).

Only roots that ship with this project's test vectors stand here, so that a test recomputes each of them. Others are
given by the caller, who got them from the vendor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

INTEL_SGX_ROOT: Final = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""Intel SGX Root CA: SGX and TDX."""
AMD_ARK_MILAN: Final = bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9")
"""ARK-Milan: SEV-SNP on EPYC 7003."""
AMD_ARK_GENOA: Final = bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831")
"""ARK-Genoa: SEV-SNP on EPYC 9004 and 8004."""
AMD_ARK_TURIN: Final = bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08")
"""ARK-Turin: SEV-SNP on EPYC 9005."""
AWS_NITRO_ROOT: Final = bytes.fromhex("f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225")
"""aws.nitro-enclaves."""

BUILT_IN: Final[Mapping[bytes, str]] = {
    INTEL_SGX_ROOT: "Intel SGX Root CA",
    AMD_ARK_MILAN: "AMD ARK-Milan",
    AMD_ARK_GENOA: "AMD ARK-Genoa",
    AMD_ARK_TURIN: "AMD ARK-Turin",
    AWS_NITRO_ROOT: "AWS Nitro Enclaves",
}
"""What they are called."""
