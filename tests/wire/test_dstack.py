"""dstack's event logs by themselves: their encoding, their replay, and the identity that they give to a quote."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from tee_vectors import SGX, TDX

from wire.codec import pack
from wire.errors import EvidenceForged, EvidenceMalformed
from wire.identity import SecurityLevel
from wire.tee.dstack import DstackEvidence, read_dstack, show_dstack, verify_dstack
from wire.tee.intel_quote import Quote, TdBody

APP, COMPOSE, PROVIDER = b"\xaa" * 20, b"\xbb" * 32, b'{"name":"kms\xff"}'
EVENTS = (("app-id", APP), ("compose-hash", COMPOSE), ("key-provider", PROVIDER), ("system-ready", b""))
MRTD, RTMR0, RTMR1, RTMR2 = (bytes([at]) * 48 for at in range(1, 5))
QUOTE = Quote.parse(TDX.evidence)
assert isinstance(QUOTE.body, TdBody)
BODY = replace(QUOTE.body, measurement=MRTD, registers=(RTMR0, RTMR1, RTMR2, bytes(48)))
OF_QUOTE = QUOTE.identity(SecurityLevel.STALE, "OutOfDate", 5, ("INTEL-SA-1",))


def extended(register: bytes, event: bytes) -> bytes:
    return hashlib.sha384(register + hashlib.sha384(event).digest()).digest()


def test_evidence_is_a_quote_and_the_events_in_order() -> None:
    for evidence in (DstackEvidence(b"quote", EVENTS), DstackEvidence(b"", ())):
        assert evidence.encode() == pack([evidence.quote, [[name, payload] for name, payload in evidence.events]])
        assert DstackEvidence.decode(evidence.encode()) == evidence


@pytest.mark.parametrize(
    "fields",
    [
        [b"quote"],
        [b"quote", [], b""],
        ["quote", []],
        [b"quote", b""],
        [b"quote", [b"name"]],
        [b"quote", [["name"]]],
        [b"quote", [["name", "payload"]]],
        [b"quote", [[b"name", b"payload"]]],
        [b"quote", [["name", b"payload", b""]]],
        [b"quote", [["name", []]]],
    ],
)
def test_other_fields_are_malformed(fields: list[object]) -> None:
    with pytest.raises(EvidenceMalformed, match="not dstack evidence"):
        DstackEvidence.decode(pack(fields))


def test_events_are_read_up_to_their_number() -> None:
    most = DstackEvidence(b"quote", (("name", b"payload"),) * 256)
    assert DstackEvidence.decode(most.encode()) == most
    with pytest.raises(EvidenceMalformed):
        DstackEvidence.decode(replace(most, events=(*most.events, ("name", b"payload"))).encode())


def test_evidence_is_as_long_as_allowed_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = DstackEvidence(b"quote", EVENTS)
    monkeypatch.setattr("wire.tee.dstack.MAX_EVIDENCE_BYTES", len(evidence.encode()))
    assert DstackEvidence.decode(evidence.encode()) == evidence
    with pytest.raises(EvidenceMalformed, match="bytes where at most"):
        DstackEvidence.decode(replace(evidence, quote=b"quote!").encode())


def test_the_register_is_extended_by_each_events_digest() -> None:
    register = bytes(48)
    assert DstackEvidence(b"", ()).replay() == register
    register = extended(register, b"\x01\x00\x00\x08:app-id:" + APP)
    assert DstackEvidence(b"", EVENTS[:1]).replay() == register
    register = extended(register, b"\x01\x00\x00\x08:\xc3\xa9:")
    assert DstackEvidence(b"", (EVENTS[0], ("é", b""))).replay() == register


def test_a_boot_event_stands_once_before_the_application_starts() -> None:
    late = (*EVENTS, ("app-id", b"of the application's own"), ("late", b""))
    assert DstackEvidence(b"", late).boot_event("app-id") == APP
    assert DstackEvidence(b"", EVENTS[:-1]).boot_event("compose-hash") == COMPOSE, "a log that ends before"
    for events, name in (
        (late, "late"),
        (late, "absent"),
        (late, "system-ready"),
        ((*EVENTS[:1], *EVENTS), "app-id"),
        ((*EVENTS[:1],) * 3, "app-id"),
        ((("system-ready", b""), *EVENTS), "app-id"),
    ):
        with pytest.raises(EvidenceMalformed, match=f"does not say '{name}' once"):
            DstackEvidence(b"", events).boot_event(name)


def test_the_identity_is_the_quotes_with_the_applications_own_digests() -> None:
    measured = b"pmap/1 dstack code" + pack([MRTD, RTMR0, RTMR1, RTMR2, COMPOSE])
    governed = b"pmap/1 dstack signer" + pack([MRTD, RTMR0, RTMR1, RTMR2, APP, PROVIDER])
    assert DstackEvidence(b"", EVENTS).identity(OF_QUOTE, BODY) == replace(
        OF_QUOTE,
        tee="dstack",
        measurement=hashlib.sha384(measured).digest(),
        signer=hashlib.sha384(governed).digest(),
        details=(
            ("compose hash", COMPOSE.hex()),
            ("app id", APP.hex()),
            ("key provider", '{"name":"kms\\xff"}'),
            *OF_QUOTE.details,
        ),
    )


def recorded(events: tuple[tuple[str, bytes], ...]) -> DstackEvidence:
    """The recorded quote, no longer signed, of a domain in which these events were measured."""
    data, at = TDX.evidence, 48 + 136 + 7 * 48
    return DstackEvidence(data[:at] + DstackEvidence(b"", events).replay() + data[at + 48 :], events)


def test_evidence_is_read_if_its_log_ends_in_the_quotes_register() -> None:
    evidence = recorded(EVENTS)
    read, quote, body = read_dstack(evidence.encode())
    assert (read, quote, body) == (evidence, Quote.parse(evidence.quote), quote.body)
    with pytest.raises(EvidenceForged, match="RTMR3"):
        read_dstack(replace(evidence, events=EVENTS[:-1]).encode())
    with pytest.raises(EvidenceMalformed, match="not TDX's"):
        read_dstack(replace(evidence, quote=SGX.evidence).encode())


def test_what_is_shown_is_not_verified_and_says_so() -> None:
    evidence = recorded(EVENTS)
    _, quote, body = read_dstack(evidence.encode())
    shown = show_dstack(evidence.encode())
    assert shown == evidence.identity(quote.identity(SecurityLevel.INSECURE, "not verified"), body)
    assert (shown.level, shown.status) == (SecurityLevel.INSECURE, "not verified")
    with pytest.raises(EvidenceForged):
        verify_dstack(evidence.encode(), TDX.endorsements.collateral or "", TDX.at)
