"""Sealing, as users of enclaves know it: who may open a store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attacked_enclaves import Ledger, Weaker

from client import AttestationError, WrongKey
from host_store.adversary import MaliciousHost
from host_store.in_process.embedded import open_map


@pytest.mark.parametrize("process", [False, True], ids=["in process", "own process"])
def test_a_new_instance_of_the_same_enclave_opens_it(
    malicious_host: Callable[..., MaliciousHost], process: bool
) -> None:
    host = malicious_host(Ledger, process=process)
    alice = host.client("alice")
    alice.send(b"put x 1")
    host.restart()
    assert alice.send(b"get x").payload == b"1"


def test_other_code_of_the_same_signer_opens_it_and_the_clients_decide(host: MaliciousHost) -> None:
    """The simulated TEE seals to the signer, so that code can be upgraded; a constraint can name the code itself."""
    alice = host.client("alice")
    alice.send(b"put x 1")
    assert alice.identity is not None
    upgraded = host.clone(enclave=Weaker)
    upgraded.adopt("alice")
    assert alice.send(b"get x").payload == b"1"
    assert alice.identity.signer is not None
    strict = f"C:{alice.identity.measurement.hex()} SEC:INSECURE"
    with pytest.raises(AttestationError):
        host.client("bob", constraint=strict)


def test_another_platform_or_signer_does_not_open_it(
    host: MaliciousHost, malicious_host: Callable[..., MaliciousHost]
) -> None:
    """To the simulated TEE both are another key: the keyring is sealed with one that this enclave does not get."""
    host.client("alice").send(b"put x 1")
    other = malicious_host(Ledger)
    other.client("alice").send(b"put x 2")
    with host.refuses(WrongKey):
        host.feed(other.records, other.keyring)
    with host.refuses(WrongKey):
        host.start()


def test_an_embedded_map_opens_with_its_own_key_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with open_map(tmp_path / "map", key=bytes(32)) as entries:
        entries["x"] = b"1"
    with pytest.raises(WrongKey):
        open_map(tmp_path / "map", key=bytes(31) + b"\x01")
    with open_map(tmp_path / "map", key=bytes(32)) as entries:
        assert entries["x"] == b"1"
