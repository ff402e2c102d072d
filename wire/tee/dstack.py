"""dstack: containers in a TDX domain, told apart by the events that dstack's own boot code measured into RTMR3.

Evidence is a TDX quote with that event log. The log is replayed: each event's digest is recomputed from what it says,
and the chain of them must end in the quote's RTMR3. So the log can be believed as far as the code in MRTD and RTMR0
to RTMR2 (dstack's firmware, kernel and image) can: any guest of one's own may measure any event. Therefore the
identity's code digest holds all of these, and so does its signer's.

Source: dstack, ``cc-eventlog`` (digest = SHA-384(type ‖ ":" ‖ name ‖ ":" ‖ payload), type 0x08000001, little-endian).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from wire.codec import expect, pack, unpack
from wire.errors import EvidenceForged, EvidenceMalformed, Malformed
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_EVIDENCE_BYTES
from wire.tee.intel import verify_quote
from wire.tee.intel_quote import Quote, TdBody
from wire.tee.x509 import Certificate

EVENT_TYPE: Final = 0x08000001
_PREFIX: Final = EVENT_TYPE.to_bytes(4, "little") + b":"
_REGISTER_BYTES: Final = 48
_MAX_EVENTS: Final = 256
_LAST_BOOT_EVENT: Final = "system-ready"
"""What follows it was measured by the application itself."""


@dataclass(frozen=True, slots=True)
class DstackEvidence:
    """A quote, and RTMR3's events in order: (name, payload)."""

    quote: bytes
    events: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack([self.quote, [[name, payload] for name, payload in self.events]])

    @classmethod
    def decode(cls, untrusted: bytes) -> DstackEvidence:
        """Raises :class:`EvidenceMalformed`."""
        try:
            quote, events = expect(unpack(untrusted, MAX_EVIDENCE_BYTES, max_arrays=2 + _MAX_EVENTS), bytes, list)
            return cls(quote, tuple((name, payload) for name, payload in (expect(one, str, bytes) for one in events)))
        except Malformed as error:
            raise EvidenceMalformed(f"not dstack evidence: {error}") from error

    def replay(self) -> bytes:
        """What RTMR3 (48 bytes) holds after these events."""
        register = bytes(_REGISTER_BYTES)
        for name, payload in self.events:
            digest = hashlib.sha384(_PREFIX + name.encode() + b":" + payload).digest()
            register = hashlib.sha384(register + digest).digest()
        return register

    def boot_event(self, wanted: str) -> bytes:
        """The payload of a boot event. Raises :class:`EvidenceMalformed` unless it stands there exactly once."""
        names = [name for name, _ in self.events]
        boot = names[: names.index(_LAST_BOOT_EVENT)] if _LAST_BOOT_EVENT in names else names
        if boot.count(wanted) != 1:
            raise EvidenceMalformed(f"the dstack event log does not say {wanted!r} once")
        return self.events[boot.index(wanted)][1]

    def identity(self, of_quote: Identity, body: TdBody) -> Identity:
        """The identity of the application inside the domain. Raises :class:`EvidenceMalformed`."""
        compose, app = self.boot_event("compose-hash"), self.boot_event("app-id")
        provider = self.boot_event("key-provider")
        # Whose code wrote the log: without it, another guest's log would name this application as well.
        guest = [body.measurement, *body.registers[:3]]
        measured = pack([*guest, compose])
        governed = pack([*guest, app, provider])
        return replace(
            of_quote,
            tee="dstack",
            measurement=hashlib.sha384(b"pmap/1 dstack code" + measured).digest(),
            signer=hashlib.sha384(b"pmap/1 dstack signer" + governed).digest(),
            details=(
                ("compose hash", compose.hex()),
                ("app id", app.hex()),
                ("key provider", provider.decode("utf-8", "backslashreplace")),
                *of_quote.details,
            ),
        )


def read_dstack(untrusted: bytes) -> tuple[DstackEvidence, Quote, TdBody]:
    """Parse evidence and check the event log against its quote, which is not verified.

    Raises:
        EvidenceMalformed: not evidence of this kind.
        EvidenceForged: the event log is not the one in the quote.
    """
    evidence = DstackEvidence.decode(untrusted)
    quote = Quote.parse(evidence.quote)
    if not isinstance(quote.body, TdBody):
        raise EvidenceMalformed("dstack evidence with a quote that is not TDX's")
    if evidence.replay() != quote.body.registers[3]:
        raise EvidenceForged("the dstack event log is not the one that was measured into RTMR3")
    return evidence, quote, quote.body


def verify_dstack(
    untrusted: bytes, untrusted_collateral: str, at: int, *, roots: Collection[Certificate] = ()
) -> Identity:
    """As :func:`wire.tee.intel.verify_quote`, for dstack evidence."""
    evidence, quote, body = read_dstack(untrusted)
    return evidence.identity(verify_quote(quote, untrusted_collateral, at, roots=roots), body)


def show_dstack(untrusted: bytes) -> Identity:
    """What the evidence says, unverified. Raises as :func:`read_dstack`."""
    evidence, quote, body = read_dstack(untrusted)
    return evidence.identity(quote.identity(SecurityLevel.INSECURE, "not verified"), body)
