"""Who can open a store: by code, by signer, by version (attack rows 34, 76, 77)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sealed_store import Counter, SealedStore

from pmap.enclave import EnclaveSettings
from pmap.launch import Launcher
from pmap.tee.simulated import SimulatedTee
from wire.errors import DowngradeRefused, InvalidInput, WrongKey
from wire.simulated import SimulatedEvidence

PLATFORM = os.urandom(32)
OTHER_SIGNER = bytes(32)


class ExactCounter(Counter):
    seal_to = "code"


class Version2(Counter):
    security_version = 2


class Version3(Counter):
    security_version = 3


def tee(code: int = 1, *, platform: bytes = PLATFORM, **identity: object) -> SimulatedTee:
    return SimulatedTee(platform, bytes([code]) * 32, **identity)  # type: ignore[arg-type]


def test_a_store_sealed_to_the_signer_opens_for_other_code_of_that_signer() -> None:
    store = SealedStore.found(Counter, tee(code=1))
    assert store.count(Counter, tee(code=1)) == 1
    assert store.count(Counter, tee(code=2)) == 2


@pytest.mark.parametrize(
    "other", [{"signer": OTHER_SIGNER}, {"product": 2}, {"platform": bytes(31) + b"\x01"}], ids=str
)
def test_a_store_sealed_to_the_signer_opens_for_no_other_signer_product_or_platform(other: dict[str, object]) -> None:
    store = SealedStore.found(Counter, tee())
    with pytest.raises(WrongKey):
        store.restart(Counter, tee(**other))  # type: ignore[arg-type]


def test_a_store_sealed_to_the_code_opens_for_that_code_only() -> None:
    store = SealedStore.found(ExactCounter, tee(code=1))
    assert store.count(ExactCounter, tee(code=1)) == 1
    with pytest.raises(WrongKey):
        store.restart(ExactCounter, tee(code=2))


def test_weaker_code_of_the_same_signer_does_not_open_a_store_sealed_to_the_code() -> None:
    store = SealedStore.found(ExactCounter, tee(code=1))
    with pytest.raises(WrongKey):
        store.restart(Counter, tee(code=1))


def test_older_code_refuses_newer_state() -> None:
    store = SealedStore.found(Counter, tee())
    store.count(Version2, tee())
    with pytest.raises(DowngradeRefused, match="version 2"):
        store.restart(Counter, tee())


def test_newer_code_that_wrote_nothing_does_not_lock_the_older_out() -> None:
    store = SealedStore.found(Counter, tee())
    store.restart(Version2, tee())
    assert store.count(Counter, tee()) == 1


def test_down_and_up_again_is_refused_on_the_way_down_and_harmless_on_the_way_up() -> None:
    store = SealedStore.found(Counter, tee())
    store.count(Version3, tee())
    for _ in range(2):
        with pytest.raises(DowngradeRefused):
            store.restart(Version2, tee())
        assert store.count(Version3, tee()) >= 2


def test_the_floor_stays_over_many_commits_and_sweeps() -> None:
    store = SealedStore.found(Version2, tee())
    core, _ = store.restart(Version2, tee())
    for _ in range(40):
        store.call(core)
    with pytest.raises(DowngradeRefused):
        store.restart(Counter, tee())


def test_a_new_store_carries_the_floor_of_the_code_that_founded_it() -> None:
    store = SealedStore.found(Version2, tee())
    with pytest.raises(DowngradeRefused):
        store.restart(Counter, tee())


@pytest.mark.parametrize("enclave", [Counter, Version3])
def test_a_launched_enclave_attests_the_security_version_of_its_code(enclave: type[Counter], tmp_path: Path) -> None:
    attestation = Launcher(enclave, tmp_path / "test.key").launch(None, ()).core.attestation
    assert SimulatedEvidence.decode(attestation.evidence).security_version == enclave.security_version


@pytest.mark.parametrize("version", [0, -1, 65_536, True, "1", 1.0])
def test_an_impossible_security_version_is_refused(version: object) -> None:
    class Strange(Counter):
        security_version = version  # type: ignore[assignment]

    with pytest.raises(InvalidInput, match="security_version"):
        EnclaveSettings.of(Strange)


@pytest.mark.parametrize("policy", ["", "CODE", "anybody", None])
def test_an_unknown_sealing_policy_is_refused(policy: object) -> None:
    class Strange(Counter):
        seal_to = policy  # type: ignore[assignment]

    with pytest.raises(InvalidInput, match="sealed to"):
        EnclaveSettings.of(Strange)


def test_the_policies_are_part_of_what_is_measured() -> None:
    measured = [EnclaveSettings.of(one).measured() for one in (Counter, ExactCounter, Version2)]

    class Willing(Counter):
        successors = "SEC:INSECURE"

    measured.append(EnclaveSettings.of(Willing).measured())
    assert all(one != other for at, one in enumerate(measured) for other in measured[:at])
