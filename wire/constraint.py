"""Which enclaves somebody accepts, in one line of text, after R3 Conclave's constraint language.

::

    C:<hexadecimal digits>           a code measurement (64 or 96 digits); several are alternatives
    S:<hexadecimal digits>           a signer (64 or 96 digits); several are alternatives
    PROD:<number>                    the signer's product number; 0 where the TEE has none
    REVOKE:<number>                  the lowest acceptable security version
    SEC:INSECURE|STALE|SECURE        the lowest acceptable security level; SECURE unless said
    EXPIRE:P[nY][nM][nW][nD]         the greatest age of what is known of the platform (ISO 8601 period)

Terms are separated by single spaces, in any order; each kind that is there must hold, and all but C and S may stand
once. At least one ``C:`` or ``S:`` is needed, because without one *any* enclave would do; only ``SEC:INSECURE``, which
trusts nothing anyway, may stand without. Hexadecimal digits are lower case and numbers have no leading zeros: one
meaning, one spelling, and ``str`` gives the text back. An enclave in debug mode is never accepted.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from wire.errors import DebugEnclave, EvidenceExpired, IdentityMismatch, InvalidInput, TcbUnacceptable
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_CONSTRAINT_CHARACTERS

_DIGEST: Final = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{96})", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_PERIOD: Final = re.compile(
    r"P(?=\d)(?:([1-9]\d{0,3})Y)?(?:([1-9]\d{0,3})M)?(?:([1-9]\d{0,3})W)?(?:([1-9]\d{0,4})D)?", re.ASCII
)
_MAX_PRODUCT: Final = 0xFFFF
_MAX_VERSION: Final = 0xFFFF_FFFF  # SNP's guest SVN has 32 bits, SGX's ISVSVN 16
_SHOWN_CHARACTERS: Final = 40
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
    """A parsed constraint; :meth:`parse` makes one, and ``str`` gives its text back."""

    text: str
    measurements: frozenset[bytes]
    signers: frozenset[bytes]
    product: int | None
    lowest_version: int
    level: SecurityLevel
    expire: Period | None = None

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint strictly. Raises :class:`InvalidInput` with a sentence that names the term."""
        if not isinstance(text, str) or len(text) > MAX_CONSTRAINT_CHARACTERS:
            raise InvalidInput(f"a constraint is a text of at most {MAX_CONSTRAINT_CHARACTERS} characters")
        terms: dict[str, list[str]] = {kind: [] for kind in ("C", "S", "PROD", "REVOKE", "SEC", "EXPIRE")}
        for term in text.split(" "):
            kind, _, value = term.partition(":")
            if kind not in terms or not value:
                raise InvalidInput(
                    f"{_shown(term)} is no term of a constraint: they are C:, S:, PROD:, REVOKE:, SEC: and EXPIRE:,"
                    " separated by single spaces"
                )
            terms[kind].append(value)
        expire = _once("EXPIRE", terms["EXPIRE"])
        constraint = cls(
            text,
            frozenset(_digest("C", value) for value in terms["C"]),
            frozenset(_digest("S", value) for value in terms["S"]),
            _number("PROD", terms["PROD"], _MAX_PRODUCT),
            _number("REVOKE", terms["REVOKE"], _MAX_VERSION) or 0,
            _level(terms["SEC"]),
            None if expire is None else Period.parse(expire),
        )
        if constraint.level is not SecurityLevel.INSECURE and not (constraint.measurements or constraint.signers):
            raise InvalidInput(
                "this constraint would accept any enclave: name its code (C:) or its signer (S:);"
                " SEC:INSECURE alone is for development"
            )
        return constraint

    def __str__(self) -> str:
        return self.text

    def check(self, identity: Identity, at: int | None = None) -> None:
        """Accept a verified identity as of ``at`` (Unix seconds; EXPIRE needs it), or raise with a sentence.

        Raises:
            DebugEnclave: the host can read the enclave's memory.
            TcbUnacceptable: the security level is below the one asked for.
            IdentityMismatch: another code, signer, product or version.
            EvidenceExpired: what is known of the platform is older than EXPIRE allows, or carries no date.
        """
        if identity.debug:
            raise DebugEnclave("the enclave runs in debug mode: its host can read everything in it")
        if identity.level < self.level:
            reason = f" ({identity.status})" if identity.status else ""
            raise TcbUnacceptable(
                f"the enclave's security level is {identity.level.name}, the constraint asks for {self.level.name} or"
                f" better{reason}"
            )
        self._check_identity(identity)
        if self.expire is None:
            return
        if at is None or identity.dated is None:
            raise EvidenceExpired("without a date of the evidence and a time to hold against it, EXPIRE: cannot hold")
        if at > self.expire.after(identity.dated):
            raise EvidenceExpired("what is known of the enclave's platform is older than EXPIRE: allows")

    def _check_identity(self, identity: Identity) -> None:
        if self.measurements and identity.measurement not in self.measurements:
            raise IdentityMismatch(
                "the enclave runs other code than the constraint allows:"
                f" its measurement is {identity.measurement.hex()}"
            )
        if self.signers and identity.signer not in self.signers:
            signer = "nobody" if identity.signer is None else identity.signer.hex()
            raise IdentityMismatch(f"the enclave is signed by somebody whom the constraint does not name: {signer}")
        if self.product is not None and identity.product != self.product:
            raise IdentityMismatch(
                f"the enclave is product {identity.product} of its signer, the constraint asks for {self.product}"
            )
        if identity.security_version < self.lowest_version:
            raise IdentityMismatch(
                f"the enclave's security version is {identity.security_version},"
                f" the constraint revokes everything below {self.lowest_version}"
            )


def _digest(kind: str, value: str) -> bytes:
    if not _DIGEST.fullmatch(value):
        raise InvalidInput(f"{kind}: takes 64 or 96 lower-case hexadecimal digits, not {_shown(value)}")
    return bytes.fromhex(value)


def _once(kind: str, values: list[str]) -> str | None:
    if len(values) > 1:
        raise InvalidInput(f"{kind}: may stand once in a constraint")
    return values[0] if values else None


def _number(kind: str, values: list[str], most: int) -> int | None:
    value = _once(kind, values)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > most:
        raise InvalidInput(f"{kind}: takes a number from 0 to {most}, not {_shown(value)}")
    return int(value)


def _level(values: list[str]) -> SecurityLevel:
    value = _once("SEC", values)
    if value is None:
        return SecurityLevel.SECURE
    if value not in SecurityLevel.__members__:
        raise InvalidInput(f"SEC: takes INSECURE, STALE or SECURE, not {_shown(value)}")
    return SecurityLevel[value]


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else repr(text[:_SHOWN_CHARACTERS]) + "..."
