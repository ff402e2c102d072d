"""What is said of a platform beside its evidence: by its vendor, signed, and by the verifier, who decides.

On the way between two hosts only the vendor's part travels: nobody takes roots, or the least firmware, from a stranger.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wire.codec import expect, pack, unpack
from wire.errors import EvidenceForged, EvidenceMalformed, InvalidInput, Malformed
from wire.limits import MAX_CHAIN_CERTIFICATES, MAX_ENDORSEMENTS_BYTES
from wire.tee.snp_report import SnpTcb
from wire.tee.x509 import Certificate

_TCB_PARTS: Final = (4, 5)
_PEM_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_NUMBER: Final = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endorsements:
    """What a verifier brings along: none of it secret, all but ``roots`` and ``snp_least_tcb`` checked by signatures.

    ``collateral``: Intel's, in JSON (SGX, TDX, dstack). ``snp_chain``: VCEK or VLEK, ASK or ASVK, ARK, as far as the
    evidence does not carry them. ``roots``: root certificates to trust beside those of :mod:`wire.tee.roots`.
    ``snp_least_tcb``: the firmware that counts as up to date on AMD's platforms, of which AMD makes no statement.
    """

    collateral: str | None = None
    snp_chain: tuple[Certificate, ...] = ()
    roots: tuple[Certificate, ...] = ()
    snp_least_tcb: SnpTcb | None = None

    def encode(self) -> bytes:
        """The vendor's part: collateral and certificates."""
        return pack([self.collateral, [one.der for one in self.snp_chain]])

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> Endorsements:
        """Read the files of a folder by their names.

        ``collateral.json``: Intel's. ``root*.pem`` or ``root*.der``: roots to trust. Other ``*.pem`` and ``*.der``:
        AMD's chain. ``least-amd-firmware``: numbers divided by commas (:func:`parse_snp_tcb`).

        Raises :class:`InvalidInput`, :class:`EvidenceMalformed` and :class:`EvidenceForged`.
        """
        collateral, least = None, None
        roots: list[Certificate] = []
        chain: list[Certificate] = []
        for name, data in sorted(files.items()):
            if name == "collateral.json":
                collateral = data.decode("utf-8", "replace")
            elif name == "least-amd-firmware":
                least = parse_snp_tcb(data.decode("ascii", "replace").strip())
            elif name.endswith((".pem", ".der")):
                (roots if name.startswith("root") else chain).extend(parse_certificates(data))
            else:
                raise InvalidInput(
                    f"what is {name!r}? Endorsements are collateral.json, root*.pem, other .pem and .der files of a"
                    " chain, and least-amd-firmware"
                )
        return cls(collateral, order_chain(chain), tuple(roots), least)

    @classmethod
    def decode(
        cls, untrusted: bytes, roots: tuple[Certificate, ...] = (), snp_least_tcb: SnpTcb | None = None
    ) -> Endorsements:
        """Undo :meth:`encode`, beside the verifier's own part. Raises :class:`EvidenceMalformed`."""
        try:
            collateral, chain = expect(
                unpack(untrusted, MAX_ENDORSEMENTS_BYTES, max_arrays=2, max_items=MAX_CHAIN_CERTIFICATES), object, list
            )
        except Malformed as error:
            raise EvidenceMalformed(f"no endorsements: {error}") from error
        if collateral is not None and type(collateral) is not str:
            raise EvidenceMalformed("endorsements with collateral that is no text")
        if any(type(one) is not bytes for one in chain):
            raise EvidenceMalformed("endorsements with a certificate that is none")
        return cls(collateral, tuple(map(Certificate.parse, chain)), roots, snp_least_tcb)


NO_ENDORSEMENTS: Final = Endorsements()


def parse_certificates(data: bytes) -> list[Certificate]:
    """The certificates of one's own file: one in DER, or several in PEM, with any line ends and with words around them.

    Raises :class:`EvidenceMalformed`.
    """
    if b"-----BEGIN" not in data:
        return [Certificate.parse(data)]
    blocks = _PEM_BLOCK.findall(data)
    if not blocks:
        raise EvidenceMalformed("a file in PEM without a certificate")
    try:
        return [Certificate.parse(base64.b64decode(b"".join(block.split()), validate=True)) for block in blocks]
    except binascii.Error as error:
        raise EvidenceMalformed("a certificate in PEM that is not base64") from error


def order_chain(certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """From leaf to root, whatever order they come in; without leaf or root, as far as they go.

    Raises :class:`EvidenceForged` where they are not one chain.
    """
    issuers = {one.issuer for one in certificates if one.issuer != one.subject}
    chain = [one for one in certificates if one.subject not in issuers]
    if len(chain) != min(len(certificates), 1):
        raise EvidenceForged("the certificates are not one chain: several of them, or none, could be its first")
    while len(chain) < len(certificates):
        following = [one for one in certificates if one.subject == chain[-1].issuer and one not in chain]
        if len(following) != 1:
            raise EvidenceForged("the certificates are not one chain from a leaf to a root")
        chain.extend(following)
    return tuple(chain)


def parse_snp_tcb(text: str) -> SnpTcb:
    """Read ``4,0,22,213``: boot loader, TEE, SNP, microcode, and FMC from Turin on. Raises :class:`InvalidInput`."""
    parts = text.split(",")
    if len(parts) not in _TCB_PARTS or any(_NUMBER.fullmatch(part) is None or int(part) > 255 for part in parts):
        raise InvalidInput("AMD's firmware is four numbers (five from Turin on) from 0 to 255, divided by commas")
    return SnpTcb(*map(int, parts))
