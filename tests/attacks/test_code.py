"""Rows 76 to 81: other code than the one that a state, or a client, belongs to."""

from __future__ import annotations

from functools import partial

from attack_steps import Attack, fill_window
from attacked_enclaves import Weaker

from client import UnsupportedVersion
from host_store.adversary import MaliciousHost
from wire.errors import IdentityMismatch
from wire.record import HEADER_BYTES

VERSION_AT = 3  # bytes: in a record's header, and in a keyring


def of_version(blob: bytes, version: int) -> bytes:
    return blob[:VERSION_AT] + bytes([version]) + blob[VERSION_AT + 1 :]


def test_row_76_older_code_on_a_newer_state(host: MaliciousHost, attack: Attack) -> None:
    """To this code, a later format is what this format is to older code."""
    fill_window(host, host.client("alice"))
    good, window = host.snapshot(), host.records
    for version in (0, 2, 255):
        for place in (0, len(window) // 2, -1):
            newer = [*window]
            newer[place] = of_version(window[place], version)
            attack.refused_at_load(host, partial(host.feed, newer), UnsupportedVersion)
        host.restore(good)
        attack.refused_at_load(
            host, partial(host.replace_keyring, of_version(host.archive.keyrings[0], version)), UnsupportedVersion
        )
        host.restore(good)
    assert window[-1][VERSION_AT] == 1 and len(window[-1]) > HEADER_BYTES


def test_row_80_a_weakened_policy(host: MaliciousHost, attack: Attack) -> None:
    with host.client("alice") as first:
        first.send(b"add x 1")
        assert first.identity is not None
        code = f"C:{first.identity.measurement.hex()} SEC:INSECURE"
    alice = host.client("alice", constraint=code)
    assert alice.send(b"get x").payload == b"1"
    weaker = host.clone(enclave=Weaker)
    weaker.adopt("alice")
    attack.refused_by_client(weaker, lambda: alice.send(b"add x 1"), IdentityMismatch)
    weaker.restart()
    with host.refuses(IdentityMismatch):
        alice.send(b"add x 1")


def test_a_constraint_can_revoke_older_versions_of_the_code(host: MaliciousHost) -> None:
    with host.refuses(IdentityMismatch):
        host.client("alice", constraint="REVOKE:2 SEC:INSECURE")
    assert host.client("bob", constraint="REVOKE:1 SEC:INSECURE").send(b"get x").payload == b"nothing"
