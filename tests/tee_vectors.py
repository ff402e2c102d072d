"""The recorded real evidence, and when it was valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire.tee.endorsements import Endorsements
from wire.tee.intel import Collateral
from wire.tee.x509 import Certificate, parse_pem

FOLDER: Final = Path(__file__).parent / "vectors" / "attestation"


def data(name: str) -> bytes:
    """One vector's bytes."""
    return (FOLDER / name).read_bytes()


def text(name: str) -> str:
    """One vector's text."""
    return (FOLDER / name).read_text(encoding="ascii")


@dataclass(frozen=True)
class Sample:
    """Evidence, what it is verified with, and a time (Unix seconds) at which it holds."""

    kind: str
    evidence: bytes
    endorsements: Endorsements
    at: int


def intel(kind: str) -> Sample:
    collateral = text(f"{kind}_collateral.json")
    issued = max(start for _, start, _ in Collateral.parse(collateral).periods)
    return Sample(kind, data(f"{kind}_quote.bin"), Endorsements(collateral=collateral), issued + 3600)


def snp_chain() -> tuple[Certificate, ...]:
    """VCEK, ASK, ARK."""
    (ask,), (ark,) = parse_pem(data("snp_ask_milan.pem")), parse_pem(data("snp_ark_milan.pem"))
    return (Certificate.parse(data("snp_vcek_milan.der")), ask, ark)


SGX: Final = intel("sgx")
TDX: Final = intel("tdx")
SNP: Final = Sample(
    "snp", bytes.fromhex(text("snp_report_milan.hex")), Endorsements(snp_chain=snp_chain()), 1_690_000_000
)
NITRO: Final = Sample("nitro", data("nitro_document.bin"), Endorsements(), 1_665_651_500)
SAMPLES: Final = (SGX, TDX, SNP, NITRO)
