"""Intel's quotes, field by field: SGX in version 3, TDX 1.0 in version 4, TDX 1.0 and 1.5 in version 5.

Source: Intel SGX ECDSA QuoteLibReference (version 3), Intel TDX DCAP Quoting Library API (versions 4 and 5). All$
numbers are little-endian. Nothing that is read here is verified: see :mod:`wire.tee.intel`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from wire.errors import EvidenceMalformed
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_EVIDENCE_BYTES
from wire.tee.x509 import Certificate, parse_pem

_HEADER: Final = struct.Struct("<HHIHH16s20s")
_SGX, _TDX = 0x00, 0x81
_ECDSA_P256: Final = 2
_INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_SGX_BODY_BYTES: Final = 384
_TD10_BODY_BYTES: Final = 584
_TD15_BODY_BYTES: Final = 648
_BODY_TYPES: Final = {2: _TD10_BODY_BYTES, 3: _TD15_BODY_BYTES}
_SIGNATURE_BYTES: Final = 64
_KEY_BYTES: Final = 64
_REGISTER_BYTES: Final = 48
_PCK_IDS: Final = frozenset({2, 3})  # the PCK certificate's name, in clear or for RSA: the certificate comes aside
_PCK_CHAIN: Final = 5
_QE_REPORT: Final = 6
_SGX_DEBUG: Final = 1 << 1
_TD_UNTRUSTED: Final = 0xFF  # bit 0 is DEBUG; the other seven are reserved for further ways to give up protection


@dataclass(frozen=True, slots=True)
class SgxBody:
    """An SGX enclave's report."""

    attributes: int
    measurement: bytes
    signer: bytes
    product: int
    security_version: int
    config: bytes
    report_data: bytes

    @property
    def debug(self) -> bool:
        """Whether a debugger may read the enclave's memory."""
        return bool(self.attributes & _SGX_DEBUG)


@dataclass(frozen=True, slots=True)
class TdBody:
    """A trust domain's report."""

    attributes: int
    module: bytes
    """MRSEAM: the TDX module's measurement (48 bytes)."""
    measurement: bytes
    """MRTD: the initial memory (48 bytes)."""
    config: bytes
    owner: bytes
    owner_config: bytes
    registers: tuple[bytes, bytes, bytes, bytes]
    """RTMR0 to RTMR3 (48 bytes each): firmware and its settings, boot loader, kernel and its command line, runtime."""
    report_data: bytes
    service: bytes
    """MRSERVICETD of TDX 1.5 (48 bytes): a bound service TD, such as a migration TD; zeros where there is none."""

    @property
    def debug(self) -> bool:
        """Whether the host may read the domain's memory."""
        return bool(self.attributes & _TD_UNTRUSTED)

    @property
    def code(self) -> bytes:
        """One digest (SHA-384) over everything that was measured, from the initial memory to the runtime register."""
        return hashlib.sha384(b"pmap/1 tdx code" + self.measurement + b"".join(self.registers)).digest()


@dataclass(frozen=True, slots=True)
class Quote:
    """A parsed quote, as exact bytes without padding."""

    data: bytes
    version: int
    body: SgxBody | TdBody
    chain: tuple[Certificate, ...]
    """The PCK certificate and its issuers; empty where the quote only names it."""

    @classmethod
    def parse(cls, untrusted: bytes) -> Quote:
        """Read a quote; zeros after its end are dropped, because guests get it in a larger buffer.

        Raises :class:`EvidenceMalformed`.
        """
        if len(untrusted) > MAX_EVIDENCE_BYTES:
            raise EvidenceMalformed(f"a quote of {len(untrusted)} bytes")
        reader = _Reader(untrusted)
        version, key_type, tee, _, _, vendor, _ = _HEADER.unpack(reader.take(_HEADER.size))
        if key_type != _ECDSA_P256 or vendor != _INTEL_QE:
            raise EvidenceMalformed("a quote that Intel's quoting enclave did not make with ECDSA P-256")
        size = _body_bytes(reader, version, tee)
        body = _sgx_body(reader.take(size)) if tee == _SGX else _td_body(reader.take(size))
        signed = _Reader(reader.take(reader.number(4)))
        if any(reader.rest()):
            raise EvidenceMalformed("a quote with something behind its end")
        chain = _certification(signed, nested=version > 3)
        return cls(untrusted[: reader.consumed], version, body, chain)

    @property
    def tee(self) -> str:
        """``sgx`` or ``tdx``."""
        return "sgx" if isinstance(self.body, SgxBody) else "tdx"

    def identity(
        self, security: SecurityLevel, status: str, dated: int | None = None, advisories: tuple[str, ...] = ()
    ) -> Identity:
        """The identity that this quote states, on a platform of this standing."""
        body = self.body
        if isinstance(body, SgxBody):
            measurement, signer = body.measurement, body.signer
            product, version = body.product, body.security_version
            details = [("config id", body.config.hex())]
        else:
            measurement, signer, product, version = body.code, None, 0, 0
            details = [("MRTD", body.measurement.hex())]
            details += [(f"RTMR{index}", value.hex()) for index, value in enumerate(body.registers)]
            details += [("MRCONFIGID", body.config.hex()), ("MROWNER", body.owner.hex())]
            details += [("TDX module", body.module.hex()), ("TD attributes", f"{body.attributes:#018x}")]
        return Identity(
            measurement,
            signer,
            product,
            version,
            security,
            self.tee,
            body.report_data,
            status,
            body.debug,
            dated,
            advisories,
            tuple(details),
        )


class _Reader:
    """Takes bytes from the front; what is missing is malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.consumed = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self.consumed : self.consumed + count]
        if len(taken) != count:
            raise EvidenceMalformed("a quote that ends too early")
        self.consumed += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def rest(self) -> bytes:
        return self._data[self.consumed :]


def _body_bytes(reader: _Reader, version: int, tee: int) -> int:
    if version == 3 and tee == _SGX:  # in version 3 these bytes are reserved
        return _SGX_BODY_BYTES
    if version == 4 and tee == _TDX:
        return _TD10_BODY_BYTES
    if version == 5 and tee == _TDX:
        kind, size = reader.number(2), reader.number(4)
        if _BODY_TYPES.get(kind) == size:
            return size
    raise EvidenceMalformed(f"a quote of version {version} for TEE {tee:#x}: a kind that this code does not read")


def _sgx_body(data: bytes) -> SgxBody:
    product, security_version = struct.unpack_from("<HH", data, 256)
    (attributes,) = struct.unpack_from("<Q", data, 48)
    return SgxBody(
        attributes, data[64:96], data[128:160], product, security_version, data[192:256], data[320:_SGX_BODY_BYTES]
    )


def _td_body(data: bytes) -> TdBody:
    (attributes,) = struct.unpack_from("<Q", data, 120)
    measured = [data[at : at + _REGISTER_BYTES] for at in range(136, 136 + 8 * _REGISTER_BYTES, _REGISTER_BYTES)]
    mrtd, config, owner, owner_config, rtmr0, rtmr1, rtmr2, rtmr3 = measured
    return TdBody(
        attributes,
        data[16:64],
        mrtd,
        config,
        owner,
        owner_config,
        (rtmr0, rtmr1, rtmr2, rtmr3),
        data[520:_TD10_BODY_BYTES],
        data[600:_TD15_BODY_BYTES] or bytes(_REGISTER_BYTES),
    )


def _certification(reader: _Reader, *, nested: bool) -> tuple[Certificate, ...]:
    """Walk through the signature data, which must be used up to its last byte."""
    reader.take(_SIGNATURE_BYTES + _KEY_BYTES)
    if nested:
        if reader.number(2) != _QE_REPORT:
            raise EvidenceMalformed("a quote without the quoting enclave's report")
        inner = _Reader(reader.take(reader.number(4)))
        if reader.rest():
            raise EvidenceMalformed("a quote with something behind its certification data")
        reader = inner
    reader.take(_SGX_BODY_BYTES + _SIGNATURE_BYTES)
    reader.take(reader.number(2))
    kind = reader.number(2)
    data = reader.take(reader.number(4))
    if reader.rest():
        raise EvidenceMalformed("a quote with something behind its certification data")
    if kind == _PCK_CHAIN:
        return tuple(parse_pem(data.removesuffix(b"\0")))
    if kind in _PCK_IDS:
        return ()
    raise EvidenceMalformed(f"a quote with certification data of kind {kind}, which this code does not read")
