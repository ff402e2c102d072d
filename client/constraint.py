"""Which enclaves a client accepts, in one line of text.

::

    C:<64 hexadecimal digits>        a code measurement; several are alternatives
    S:<64 hexadecimal digits>        a signer; several are alternatives
    PROD:<number>                    the product number (at most once)
    REVOKE:<number>                  the lowest acceptable security version (at most once)
    SEC:INSECURE|STALE|SECURE        the lowest acceptable security level (at most once; SECURE unless said)

Terms are separated by single spaces, in any order, and each kind that is there must hold. At least one ``C:`` or
``S:`` is needed, because without one *any* enclave would do; only ``SEC:INSECURE``, which trusts nothing anyway,
may stand without. Hexadecimal digits are lower case and numbers have no leading zeros: one meaning, one spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from client.identity import Identity, SecurityLevel
from wire.errors import AttestationError, InvalidInput
from wire.limits import MAX_CONSTRAINT_CHARACTERS

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_MAX_NUMBER: Final = 0xFFFF
_SHOWN_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed constraint; :meth:`parse` makes one, and ``str`` gives its text back."""

    text: str
    measurements: frozenset[bytes]
    signers: frozenset[bytes]
    product: int | None
    lowest_version: int
    level: SecurityLevel

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint strictly. Raises :class:`InvalidInput` with a sentence that names the term."""
        if not isinstance(text, str) or len(text) > MAX_CONSTRAINT_CHARACTERS:
            raise InvalidInput(f"a constraint is a text of at most {MAX_CONSTRAINT_CHARACTERS} characters")
        terms: dict[str, list[str]] = {"C": [], "S": [], "PROD": [], "REVOKE": [], "SEC": []}
        for term in text.split(" "):
            kind, _, value = term.partition(":")
            if kind not in terms or not value:
                raise InvalidInput(
                    f"{_shown(term)} is no term of a constraint: they are C:, S:, PROD:, REVOKE: and SEC:,"
                    " separated by single spaces"
                )
            terms[kind].append(value)
        constraint = cls(
            text,
            frozenset(_hash("C", value) for value in terms["C"]),
            frozenset(_hash("S", value) for value in terms["S"]),
            _number("PROD", terms["PROD"]),
            _number("REVOKE", terms["REVOKE"]) or 0,
            _level(terms["SEC"]),
        )
        if constraint.level is not SecurityLevel.INSECURE and not (constraint.measurements or constraint.signers):
            raise InvalidInput(
                "this constraint would accept any enclave: name its code (C:) or its signer (S:);"
                " SEC:INSECURE alone is for development"
            )
        return constraint

    def __str__(self) -> str:
        return self.text

    def check(self, identity: Identity) -> None:
        """Raises :class:`AttestationError` with a sentence if this enclave is not acceptable."""
        if identity.level < self.level:
            raise AttestationError(
                f"the enclave's security level is {identity.level.name}, the constraint asks for {self.level.name}"
                " or better"
            )
        if self.measurements and identity.measurement not in self.measurements:
            raise AttestationError(
                "the enclave runs other code than the constraint allows:"
                f" its measurement is {identity.measurement.hex()}"
            )
        if self.signers and identity.signer not in self.signers:
            raise AttestationError(
                f"the enclave is signed by somebody whom the constraint does not name: {identity.signer.hex()}"
            )
        if self.product is not None and identity.product != self.product:
            raise AttestationError(
                f"the enclave is product {identity.product} of its signer, the constraint asks for {self.product}"
            )
        if identity.security_version < self.lowest_version:
            raise AttestationError(
                f"the enclave's security version is {identity.security_version},"
                f" the constraint revokes everything below {self.lowest_version}"
            )


def _hash(kind: str, value: str) -> bytes:
    if not _HASH.fullmatch(value):
        raise InvalidInput(f"{kind}: takes 64 lower-case hexadecimal digits, not {_shown(value)}")
    return bytes.fromhex(value)


def _once(kind: str, values: list[str]) -> str | None:
    if len(values) > 1:
        raise InvalidInput(f"{kind}: may stand once in a constraint")
    return values[0] if values else None


def _number(kind: str, values: list[str]) -> int | None:
    value = _once(kind, values)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > _MAX_NUMBER:
        raise InvalidInput(f"{kind}: takes a number from 0 to {_MAX_NUMBER}, not {_shown(value)}")
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
