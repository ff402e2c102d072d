"""SGX and TDX: a quote against Intel's collateral, offline, through ``dcap-qvl`` (extra ``attestation``).

What the library does: all signatures, chains, revocation lists, the quoting enclave's identity, the TCB level. What is
done here besides: strict forms of everything, the pinned root, who signs statements on platforms, each reason to refuse
under its own name, and a policy for TCB levels, because the library accepts weak ones.

Collateral is what Intel's provisioning service gives for one platform, in the library's JSON form. Whoever carries it
is not trusted: Intel signed each part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from wire.errors import (
    DebugEnclave,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    TcbUnacceptable,
    TeeUnavailable,
    UntrustedRoot,
)
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_COLLATERAL_BYTES
from wire.tee import der
from wire.tee.intel_quote import Quote, TdBody
from wire.tee.roots import INTEL_SGX_ROOT
from wire.tee.x509 import Certificate, check_chain, parse_pem

TCB_SECURITY: Final = {
    "UpToDate": SecurityLevel.SECURE,
    "SWHardeningNeeded": SecurityLevel.STALE,
    "ConfigurationNeeded": SecurityLevel.STALE,
    "ConfigurationAndSWHardeningNeeded": SecurityLevel.STALE,
    "TDRelaunchAdvised": SecurityLevel.STALE,
    "TDRelaunchAdvisedConfigurationNeeded": SecurityLevel.STALE,
    "OutOfDate": SecurityLevel.STALE,
    "OutOfDateConfigurationNeeded": SecurityLevel.STALE,
}
"""What each of Intel's TCB statuses counts as. ``Revoked``, and any that is not here, is refused."""

_CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_LISTS: Final = ("root_ca_crl", "pck_crl")
_SIGNATURES: Final = ("tcb_info_signature", "qe_identity_signature")
_STATEMENTS: Final = ("tcb_info", "qe_identity")
_PCK_CHAIN: Final = "pck_certificate_chain"
_STATEMENT_CHAINS: Final = slice(1, 3)  # of _CHAINS
_STATEMENT_SIGNER: Final = "Intel SGX TCB Signing"
_FIELDS: Final = frozenset({*_CHAINS, *_LISTS, *_SIGNATURES, *_STATEMENTS})
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_DATE_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Collateral:
    """Parsed collateral. Nothing of it is verified yet."""

    text: str
    chains: tuple[tuple[Certificate, ...], ...]
    pck_chain: tuple[Certificate, ...]
    """The PCK certificate's chain, for quotes that only name it; else empty."""
    periods: tuple[tuple[str, int, int], ...]
    """Of each statement and revocation list: its name, from when and until when it holds (Unix seconds)."""
    revoked: frozenset[tuple[bytes, bytes]]
    """Issuer and serial number of each revoked certificate."""

    @classmethod
    def parse(cls, untrusted: str) -> Collateral:
        """Raises :class:`EvidenceMalformed`."""
        if len(untrusted) > MAX_COLLATERAL_BYTES:
            raise EvidenceMalformed(f"collateral of {len(untrusted)} characters")
        fields = _object(untrusted, "the collateral")
        if not _FIELDS <= set(fields) <= _FIELDS | {_PCK_CHAIN} or any(type(one) is not str for one in fields.values()):
            raise EvidenceMalformed("the collateral has other fields than expected")
        for name in (*_LISTS, *_SIGNATURES):
            if _HEX.fullmatch(fields[name]) is None:
                raise EvidenceMalformed(f"the collateral's {name} is not in lower-case hexadecimal digits")
        periods = [_statement_period(name, fields[name]) for name in _STATEMENTS]
        lists = {name: _RevocationList.parse(name, bytes.fromhex(fields[name])) for name in _LISTS}
        periods += [(name, found.start, found.end) for name, found in lists.items()]
        revoked = frozenset((found.issuer, serial) for found in lists.values() for serial in found.serials)
        chains = [_chain(fields[name], name) for name in _CHAINS]
        pck_chain = _chain(fields[_PCK_CHAIN], _PCK_CHAIN) if _PCK_CHAIN in fields else ()
        return cls(untrusted, tuple(chains), pck_chain, tuple(periods), revoked)

    @property
    def dated(self) -> int:
        """Since when Intel's statements about the platform hold: the older issue date (Unix seconds)."""
        return min(start for name, start, _ in self.periods if name in _STATEMENTS)


def verify_quote(quote: Quote, untrusted_collateral: str, at: int, *, roots: Collection[Certificate] = ()) -> Identity:
    """Verify a parsed SGX or TDX quote as of ``at`` (Unix seconds); ``roots``: roots to trust beside Intel's.

    Raises:
        EvidenceMalformed, EvidenceForged, UntrustedRoot, EvidenceExpired.
        DebugEnclave: the enclave is in debug mode.
        TcbUnacceptable: the platform's TCB or certificate is revoked, its status is one that nobody knows here, or the
            trust domain is bound to a service TD.
        TeeUnavailable: the library is not installed.
    """
    trusted = {INTEL_SGX_ROOT, *(one.fingerprint for one in roots)}
    if quote.chain:
        check_chain(quote.chain, trusted, at, "quote's")
    collateral = _parsed(untrusted_collateral)
    pck_chain = quote.chain or collateral.pck_chain
    if not pck_chain:
        raise EvidenceMalformed("the quote only names its PCK certificate, and the collateral does not hold it")
    # The library checks these chains too, but takes a root's own certificate at its word beside the key.
    for chain in (collateral.pck_chain, *collateral.chains):
        if chain:
            check_chain(chain, trusted, at, "collateral's")
    for chain in collateral.chains[_STATEMENT_CHAINS]:
        # A platform's own certificate has the same root: with a key taken out of one, it would judge itself.
        if chain[0].common_name() != _STATEMENT_SIGNER:
            raise EvidenceForged("the collateral's statements are signed by another key than Intel's for them")
    root = pck_chain[-1]
    if any(chain[-1].key != root.key for chain in collateral.chains):
        raise UntrustedRoot("the quote and its collateral end in different roots")
    for name, start, end in collateral.periods:
        if not start <= at < end:
            raise EvidenceExpired(f"the collateral's {name} does not hold at the given time, but {_span(start, end)}")
    for certificate in (*pck_chain, *(one for chain in collateral.chains for one in chain)):
        if (certificate.issuer, certificate.serial) in collateral.revoked:
            raise TcbUnacceptable("the platform's certificate, or one above it, was revoked")
    if quote.body.debug:
        raise DebugEnclave("the enclave runs in debug mode: its host can read everything in it")
    if isinstance(quote.body, TdBody) and any(quote.body.service):
        # A migration TD may take the domain's memory elsewhere, and so make a clone of it.
        raise TcbUnacceptable("the trust domain is bound to a service TD")
    claims = _claims(quote, collateral, at, root)
    status = claims["tcb"]["status"]
    if status not in TCB_SECURITY:
        raise TcbUnacceptable(f"the platform's TCB status is {status}")
    identity = quote.identity(TCB_SECURITY[status], status, collateral.dated, tuple(claims["tcb"]["advisory_ids"]))
    return replace(identity, root=root.fingerprint)


@lru_cache(maxsize=4)
def _parsed(untrusted_collateral: str) -> Collateral:
    # The same text is needed again for each epoch of an enclave. Only parsed, so nothing stays verified by it.
    return Collateral.parse(untrusted_collateral)


def _claims(quote: Quote, collateral: Collateral, at: int, root: Certificate) -> dict[str, Any]:
    try:
        import dcap_qvl
    except ImportError as error:
        raise TeeUnavailable("SGX and TDX evidence needs the package dcap-qvl: install pmap[attestation]") from error
    verifier = dcap_qvl.QuoteVerifier(root.der)
    try:
        verified = verifier.verify_with_policy(
            quote.data,
            dcap_qvl.QuoteCollateralV3.from_json(collateral.text),
            at,
            # The library's claims only: what is acceptable is decided here and by the constraint.
            dcap_qvl.QuotePolicy.claims_only(at),
        )
    except ValueError as error:
        if "revoked" in str(error).lower():
            raise TcbUnacceptable(f"the platform was revoked: {error}") from error
        raise EvidenceForged(f"the quote or its collateral does not hold: {error}") from error
    claims: dict[str, Any] = json.loads(verified.to_json())
    return claims


def _object(text: str, what: str) -> dict[str, Any]:
    """A JSON object without repeated names."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise EvidenceMalformed(f"{what} says something twice")
        return names

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise EvidenceMalformed(f"{what} is not JSON") from error
    if type(value) is not dict:
        raise EvidenceMalformed(f"{what} is not a JSON object")
    return value


def _statement_period(name: str, text: str) -> tuple[str, int, int]:
    statement = _object(text, f"the collateral's {name}")
    try:
        start, end = (
            datetime.strptime(statement[field], _DATE_FORM).replace(tzinfo=UTC) for field in ("issueDate", "nextUpdate")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceMalformed(f"the collateral's {name} has no dates") from error
    return name, int(start.timestamp()), int(end.timestamp())


@dataclass(frozen=True, slots=True)
class _RevocationList:
    """A CertificateList (RFC 5280, 5.1), as far as it is needed to say why a platform is refused."""

    issuer: bytes
    start: int
    end: int
    serials: frozenset[bytes]

    @classmethod
    def parse(cls, name: str, data: bytes) -> _RevocationList:
        parts = list(der.values(der.only(data, der.SEQUENCE).content))
        fields = list(der.values(parts[0].content)) if parts else []
        if [field.tag for field in fields[:3]] != [der.INTEGER, der.SEQUENCE, der.SEQUENCE] or len(fields) < 5:
            raise EvidenceMalformed(f"the collateral's {name} is no revocation list of version 2")
        entries = der.values(fields[5].content) if len(fields) > 5 and fields[5].tag == der.SEQUENCE else ()
        revoked = [list(der.values(entry.content)) for entry in entries]
        if any(not parts or parts[0].tag != der.INTEGER for parts in revoked):
            raise EvidenceMalformed(f"the collateral's {name} revokes what is no serial number")
        serials = frozenset(serial.content for serial, *_ in revoked)
        return cls(fields[2].raw, der.time(fields[3]), der.time(fields[4]), serials)


def _chain(text: str, name: str) -> tuple[Certificate, ...]:
    try:
        return tuple(parse_pem(text.encode("ascii")))
    except (EvidenceMalformed, UnicodeEncodeError) as error:
        raise EvidenceMalformed(f"the collateral's {name} is not a chain of certificates in PEM") from error


def _span(start: int, end: int) -> str:
    return " to ".join(datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d") for one in (start, end))
