"""Which enclave somebody is willing to talk to, in one line of text, after R3 Conclave's constraint language.

::

    C:<hex> ...          the code's measurement is one of these
    S:<hex> ...          or the signer is one of these; needs PROD
    PROD:<0..65535>      the signer's product number (0 where the TEE has none)
    REVOKE:<n>           the security version is above n: what is n or older counts as revoked
    SEC:INSECURE|STALE|SECURE   the platform's least security; SECURE if it is left out
    EXPIRE:P[nY][nM][nW][nD]    the greatest age of what the evidence says of the platform (ISO 8601)

Terms are divided by one space and may stand in any order; C and S may be repeated, the others not. ``str`` gives
back the very text that was parsed. An enclave whose TEE lets the host read its memory never matches.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from wire.errors import DebugEnclave, EvidenceExpired, IdentityMismatch, InvalidInput, TcbUnacceptable
from wire.identity import Identity, Security
from wire.limits import MAX_CONSTRAINT_CHARACTERS

_TERM: Final = re.compile(r"([A-Z]+):(\S+)", re.ASCII)
_DIGEST: Final = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{96})", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_PERIOD: Final = re.compile(
    r"P(?=\d)(?:([1-9]\d{0,3})Y)?(?:([1-9]\d{0,3})M)?(?:([1-9]\d{0,3})W)?(?:([1-9]\d{0,4})D)?", re.ASCII
)
MAX_PRODUCT: Final = 65_535
MAX_VERSION: Final = (1 << 32) - 1
_SECONDS_PER_DAY: Final = 86_400
_LAST_YEAR: Final = 9999


@dataclass(frozen=True, slots=True)
class Period:
    """A span of calendar time: years, months, weeks, days."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``P1Y2M3W4D``, any part of which may be missing. Raises :class:`InvalidInput`."""
        match = _PERIOD.fullmatch(text)
        if match is None:
            raise InvalidInput(f"{text!r} is no period: write P30D, P2W, P6M or P1Y")
        return cls(*(int(part or 0) for part in match.groups()))

    def after(self, at: int) -> int:
        """The moment this much later than ``at`` (Unix seconds, UTC); a day that a month lacks becomes its last."""
        start = datetime.fromtimestamp(at, UTC)
        month = start.month - 1 + self.months
        year, month = start.year + self.years + month // 12, month % 12 + 1
        if year > _LAST_YEAR:
            return (1 << 63) - 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        moved = int(start.replace(year=year, month=month, day=day).timestamp())
        return moved + (7 * self.weeks + self.days) * _SECONDS_PER_DAY


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed constraint. Make one with :meth:`parse`."""

    codes: frozenset[bytes]
    signers: frozenset[bytes]
    product: int | None
    revoked: int | None
    security: Security
    expire: Period | None
    text: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a constraint. Raises :class:`InvalidInput`, with a sentence that says what to write instead."""
        if not 0 < len(text) <= MAX_CONSTRAINT_CHARACTERS:
            raise InvalidInput(f"a constraint has 1 to {MAX_CONSTRAINT_CHARACTERS} characters")
        digests: dict[str, set[bytes]] = {"C": set(), "S": set()}
        single: dict[str, str] = {}
        for term in text.split(" "):
            match = _TERM.fullmatch(term)
            if match is None:
                raise InvalidInput(f"{term!r} is no constraint: write NAME:VALUE, divided by one space")
            name, value = match.groups()
            if name in digests:
                digest = _digest(name, value)
                if digest in digests[name]:
                    raise InvalidInput(f"{term} stands twice in the constraint")
                digests[name].add(digest)
            elif name not in ("PROD", "REVOKE", "SEC", "EXPIRE"):
                raise InvalidInput(f"{name} is no constraint: there are C, S, PROD, REVOKE, SEC and EXPIRE")
            elif name in single:
                raise InvalidInput(f"{name} stands twice in the constraint")
            else:
                single[name] = value
        if not digests["C"] and not digests["S"]:
            raise InvalidInput("a constraint names the code (C:) or its signer (S:)")
        if digests["S"] and "PROD" not in single:
            raise InvalidInput("S: needs PROD: as well, because a signer may sign several products (0: no number)")
        return cls(
            frozenset(digests["C"]),
            frozenset(digests["S"]),
            _number("PROD", single.get("PROD"), MAX_PRODUCT),
            _number("REVOKE", single.get("REVOKE"), MAX_VERSION),
            _security(single.get("SEC", Security.SECURE.name)),
            Period.parse(single["EXPIRE"]) if "EXPIRE" in single else None,
            text,
        )

    def __str__(self) -> str:
        return self.text

    def check(self, identity: Identity, at: int) -> None:
        """Accept a verified identity at time ``at`` (Unix seconds), or raise.

        Raises:
            IdentityMismatch: another code and another signer, product or version.
            DebugEnclave: the host can read the enclave's memory.
            TcbUnacceptable: the platform's security is below what was asked for.
            EvidenceExpired: what is known of the platform is older than EXPIRE allows, or carries no date.
        """
        if identity.debug:
            raise DebugEnclave("the enclave runs in debug mode: its host can read everything in it")
        self._check_code(identity)
        if self.revoked is not None and identity.security_version <= self.revoked:
            raise IdentityMismatch(
                f"security version {identity.security_version} is revoked: REVOKE:{self.revoked} asks for a newer one"
            )
        if identity.security < self.security:
            raise TcbUnacceptable(
                f"the platform is {identity.security.name} ({identity.status}); the constraint asks for "
                f"SEC:{self.security.name}"
            )
        if self.expire is not None:
            if identity.dated is None:
                raise EvidenceExpired(f"{identity.tee} evidence carries no date, so EXPIRE cannot be met")
            if at > self.expire.after(identity.dated):
                raise EvidenceExpired("what is known of the platform is older than EXPIRE allows")

    def _check_code(self, identity: Identity) -> None:
        if identity.code in self.codes:
            # The measurement says it all; a PROD beside it is still meant.
            if self.product is not None and identity.product != self.product:
                raise IdentityMismatch(f"product {identity.product}, not {self.product}")
            return
        if identity.signer is None or identity.signer not in self.signers:
            signer = "no signer" if identity.signer is None else f"signer {identity.signer.hex()}"
            raise IdentityMismatch(
                f"the enclave has code {identity.code.hex()} and {signer}: not one that was asked for"
            )
        if not any(identity.signer):
            raise IdentityMismatch("the enclave was signed by nobody")
        if identity.product != self.product:
            raise IdentityMismatch(f"product {identity.product}, not {self.product}")


def _digest(name: str, value: str) -> bytes:
    if _DIGEST.fullmatch(value) is None:
        raise InvalidInput(f"{name}: takes a digest of 64 or 96 lower-case hexadecimal digits")
    return bytes.fromhex(value)


def _number(name: str, value: str | None, most: int) -> int | None:
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None or int(value) > most:
        raise InvalidInput(f"{name}: takes a number from 0 to {most}, not {value!r}")
    return int(value)


def _security(value: str) -> Security:
    try:
        return Security[value]
    except KeyError as error:
        raise InvalidInput(f"SEC: takes INSECURE, STALE or SECURE, not {value!r}") from error
