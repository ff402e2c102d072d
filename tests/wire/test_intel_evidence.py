"""SGX, TDX and dstack evidence by an Intel of our own: every form, every TCB status, every lie."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from intel_authority import Party, Platform
from tee_vectors import TDX

from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceForged,
    EvidenceMalformed,
    TcbUnacceptable,
    UntrustedRoot,
)
from wire.identity import Identity, SecurityLevel
from wire.tee.dstack import DstackEvidence
from wire.tee.endorsements import Endorsements
from wire.tee.intel_quote import Quote
from wire.tee.verify import verify_evidence

BODY = TDX.evidence[48 : 48 + 584]
TD15 = BODY + BODY[:16] + bytes(48)
RTMR3 = 136 + 7 * 48
EVENTS = (
    ("system-preparing", b""),
    ("app-id", b"\xaa" * 20),
    ("compose-hash", b"\xbb" * 32),
    ("instance-id", b"\xcc" * 20),
    ("key-provider", b'{"name":"kms","id":"01"}'),
    ("system-ready", b""),
    ("compose-hash", b"measured by the application itself"),
)


def verify(kind: str, evidence: bytes, platform: Platform, collateral: str | None = None) -> Identity:
    endorsements = Endorsements(collateral or platform.collateral(), roots=platform.roots)
    return verify_evidence(kind, evidence, None, platform.at, endorsements)


@pytest.mark.parametrize(
    ("kind", "version", "body"),
    [("sgx", 3, None), ("tdx", 4, None), ("tdx", 5, None), ("tdx", 5, TD15)],
    ids=["sgx-3", "tdx-4", "tdx-5", "tdx-1.5"],
)
def test_quotes_of_every_version_are_verified(kind: str, version: int, body: bytes | None) -> None:
    platform = Platform(kind)
    identity = verify(kind, platform.quote(version=version, body=body), platform)
    recorded = Quote.parse(platform.recorded.evidence).identity(SecurityLevel.SECURE, "")
    assert (identity.measurement, identity.signer, identity.report_data) == (
        recorded.measurement,
        recorded.signer,
        recorded.report_data,
    )


@pytest.mark.parametrize(("kind", "version"), [("sgx", 2), ("sgx", 4), ("sgx", 5), ("tdx", 6), ("tdx", 0)])
def test_quotes_of_other_versions_are_malformed(kind: str, version: int) -> None:
    platform = Platform(kind)
    evidence = bytearray(platform.quote())
    evidence[:2] = version.to_bytes(2, "little")
    with pytest.raises(EvidenceMalformed):
        verify(kind, bytes(evidence), platform)


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("UpToDate", SecurityLevel.SECURE),
        ("SWHardeningNeeded", SecurityLevel.STALE),
        ("ConfigurationNeeded", SecurityLevel.STALE),
        ("ConfigurationAndSWHardeningNeeded", SecurityLevel.STALE),
        ("OutOfDate", SecurityLevel.STALE),
        ("OutOfDateConfigurationNeeded", SecurityLevel.STALE),
    ],
)
def test_each_tcb_status_counts_as_what_the_policy_says(status: str, level: SecurityLevel) -> None:
    platform = Platform("tdx")
    identity = verify("tdx", platform.quote(), platform, platform.collateral(status=status))
    assert (identity.status, identity.level) == (status, level)


def test_a_revoked_tcb_is_unacceptable() -> None:
    platform = Platform("tdx")
    with pytest.raises(TcbUnacceptable):
        verify("tdx", platform.quote(), platform, platform.collateral(status="Revoked"))


def test_a_tcb_status_that_nobody_knows_is_refused() -> None:
    platform = Platform("tdx")
    with pytest.raises(AttestationError):
        verify("tdx", platform.quote(), platform, platform.collateral(status="Splendid"))


def test_a_revoked_platform_is_unacceptable() -> None:
    platform = Platform("sgx")
    quote = platform.quote()
    assert verify("sgx", quote, platform)
    platform.revoked = (platform.pck,)
    with pytest.raises(TcbUnacceptable, match="revoked"):
        verify("sgx", quote, platform)


def test_a_root_that_nobody_named_is_not_trusted() -> None:
    platform = Platform("sgx")
    with pytest.raises(UntrustedRoot):
        verify_evidence("sgx", platform.quote(), None, platform.at, Endorsements(platform.collateral()))


def test_collateral_under_another_root_than_the_quotes_is_refused() -> None:
    platform, other = Platform("sgx"), Platform("sgx")
    endorsements = Endorsements(other.collateral(), roots=platform.roots + other.roots)
    with pytest.raises(UntrustedRoot, match="different roots"):
        verify_evidence("sgx", platform.quote(), None, platform.at, endorsements)


def test_a_quote_signed_by_another_platform_is_forged() -> None:
    platform, other = Platform("sgx"), Platform("sgx")
    other.pck, other.pck_ca, other.root = platform.pck, platform.pck_ca, platform.root
    stolen = platform.quote()
    platform.attestation = Party("another key", ca=False)
    assert verify("sgx", platform.quote(), platform)
    body = stolen[48 : 48 + 384]
    mixed = platform.quote()[:48] + body[:-1] + b"\x01" + platform.quote()[48 + 384 :]
    with pytest.raises(EvidenceForged):
        verify("sgx", mixed, platform)


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
@pytest.mark.parametrize("field", ["tcb_info", "qe_identity"])
def test_a_platform_cannot_judge_itself(kind: str, field: str) -> None:
    platform = Platform(kind)
    collateral = json.loads(platform.collateral())
    collateral[f"{field}_signature"] = platform.pck.sign(collateral[field].encode()).hex()
    collateral[f"{field}_issuer_chain"] = platform.pem_chain.decode()
    with pytest.raises(EvidenceForged, match="another key than Intel's"):
        verify(kind, platform.quote(), platform, json.dumps(collateral))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(64, 0x01), (112, 0x01), (123, 0x00), (123, 0x30), (125, 0x01)],
    ids=["MRSIGNERSEAM", "SEAMATTRIBUTES", "no SEPT_VE_DISABLE", "MIGRATABLE", "reserved attribute"],
)
def test_a_domain_under_another_module_or_with_weak_attributes_is_refused(offset: int, value: int) -> None:
    platform = Platform("tdx")
    with pytest.raises(EvidenceForged):
        verify("tdx", platform.quote(change={offset: bytes([value])}), platform)


@pytest.mark.parametrize(("kind", "offset", "value"), [("sgx", 48, 0x07), ("tdx", 120, 0x01), ("tdx", 120, 0x80)])
def test_a_signed_debug_quote_is_refused(kind: str, offset: int, value: int) -> None:
    platform = Platform(kind)
    with pytest.raises(DebugEnclave):
        verify(kind, platform.quote(change={offset: bytes([value])}), platform)


def test_a_domain_with_a_service_td_is_unacceptable() -> None:
    platform = Platform("tdx")
    body = TD15[:600] + b"\x01" * 48
    with pytest.raises(TcbUnacceptable, match="service TD"):
        verify("tdx", platform.quote(version=5, body=body), platform)


@pytest.mark.parametrize("kind", [2, 3])
def test_a_quote_that_only_names_its_certificate_is_verified_with_collateral_that_holds_it(kind: int) -> None:
    platform = Platform("tdx")
    quote = platform.quote(certification=(kind, bytes(404)))
    assert verify("tdx", quote, platform, platform.collateral(pck_chain=True)).status == "UpToDate"
    with pytest.raises(EvidenceMalformed, match="only names"):
        verify("tdx", quote, platform)


@pytest.mark.parametrize("kind", [0, 1, 4, 6, 7, 0xFFFF])
def test_other_certification_data_is_malformed(kind: int) -> None:
    platform = Platform("sgx")
    with pytest.raises(EvidenceMalformed):
        verify("sgx", platform.quote(certification=(kind, b"data")), platform)


@pytest.mark.parametrize(
    "collateral",
    ["", "[]", "{}", '{"tcb_info": 1}', "{" * 5000, '{"a": "b", "a": "b"}', "x" * 2_000_000],
    ids=["empty", "list", "object", "number", "deep", "twice", "long"],
)
def test_what_is_no_collateral_is_malformed(collateral: str) -> None:
    with pytest.raises(EvidenceMalformed):
        verify_evidence("tdx", TDX.evidence, None, TDX.at, Endorsements(collateral))


# --- dstack -----------------------------------------------------------------------------------------------


def dstack(platform: Platform, events: tuple[tuple[str, bytes], ...] = EVENTS) -> DstackEvidence:
    measured = DstackEvidence(b"", events).replay()
    return DstackEvidence(platform.quote(change={RTMR3: measured}), events)


def test_dstack_evidence_shows_the_application_in_the_domain() -> None:
    platform = Platform("tdx")
    identity = verify("dstack", dstack(platform).encode(), platform)
    details = dict(identity.details)
    assert (identity.tee, identity.status, len(identity.measurement)) == ("dstack", "UpToDate", 48)
    assert (details["compose hash"], details["app id"]) == ("bb" * 32, "aa" * 20)


def test_the_dstack_measurement_follows_the_compose_file_and_not_the_instance() -> None:
    platform = Platform("tdx")

    def identity(name: str, payload: bytes) -> Identity:
        events = tuple((one, payload if one == name else old) for one, old in EVENTS[:-1])
        return verify("dstack", dstack(platform, events).encode(), platform)

    same = identity("instance-id", b"\x01" * 20)
    assert identity("instance-id", b"\x02" * 20).measurement == same.measurement
    assert identity("compose-hash", b"\x02" * 32).measurement != same.measurement
    assert identity("compose-hash", b"\x02" * 32).signer == same.signer
    assert identity("app-id", b"\x02" * 20).signer != same.signer
    assert identity("key-provider", b"none").signer != same.signer


@pytest.mark.parametrize("register", range(4), ids=["MRTD", "RTMR0", "RTMR1", "RTMR2"])
def test_a_guest_of_ones_own_that_measures_anothers_events_has_neither_its_code_nor_its_signer(register: int) -> None:
    platform = Platform("tdx")
    honest = dstack(platform)
    offset = 136 if register == 0 else 136 + (3 + register) * 48
    measured = {RTMR3: honest.replay(), offset: b"another guest's image".ljust(48)}
    other = DstackEvidence(platform.quote(change=measured), EVENTS)
    real, false = (verify("dstack", one.encode(), platform) for one in (honest, other))
    assert false.signer != real.signer
    assert false.measurement != real.measurement


def test_a_dstack_event_log_that_is_not_the_quotes_is_forged() -> None:
    platform = Platform("tdx")
    honest = dstack(platform)
    for events in (
        honest.events[:-1],
        (*honest.events, ("more", b"")),
        honest.events[::-1],
        (honest.events[0], ("app-id", b"\xab" * 20), *honest.events[2:]),
    ):
        with pytest.raises(EvidenceForged, match="RTMR3"):
            verify("dstack", replace(honest, events=events).encode(), platform)


@pytest.mark.parametrize("name", ["compose-hash", "app-id", "key-provider"])
def test_a_dstack_boot_event_that_is_missing_or_doubled_is_malformed(name: str) -> None:
    platform = Platform("tdx")
    missing = tuple(event for event in EVENTS[:-1] if event[0] != name)
    doubled = (*((name, b"first"),), *EVENTS[:-1])
    for events in (missing, doubled):
        with pytest.raises(EvidenceMalformed, match=name):
            verify("dstack", dstack(platform, events).encode(), platform)


def test_dstack_evidence_with_an_sgx_quote_is_malformed() -> None:
    platform = Platform("sgx")
    with pytest.raises(EvidenceMalformed, match="not TDX"):
        verify("dstack", DstackEvidence(platform.quote(), EVENTS).encode(), platform)
