"""Rows 76 to 81: other code, or another key, than the one that a state, or a client, belongs to."""

from __future__ import annotations

from functools import partial

from attack_steps import Attack, fill_window, rotated_keyring, send_unheard
from attacked_enclaves import Ledger, Patched, Weaker

from client import ForkDetected, RollbackDetected, UnsupportedVersion
from host_store.adversary import MaliciousHost
from wire.errors import CorruptedStore, DowngradeRefused, IdentityMismatch
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

    # Of one format, the security version tells: newer code leaves it in the state.
    host.enclave = Patched
    host.restart()
    with host.client("bob") as bob:
        bob.send(b"put x 1")
    host.enclave = Ledger
    attack.refused_at_load(host, host.restart, DowngradeRefused)


def test_row_77_down_to_older_code_and_up_again(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    before = host.snapshot()
    host.enclave = Patched
    host.restart()
    alice.send(b"add x 1")
    # Down, on the state that the newer code has written.
    newer = host.snapshot()
    host.enclave = Ledger
    attack.refused_at_load(host, host.restart, DowngradeRefused)
    # Up again: nothing is lost, nothing is wrong.
    host.enclave = Patched
    host.restore(newer)
    assert alice.send(b"get x").payload == b"2"
    # Down on a state from before: the older code starts, and touches it. Then up again.
    host.enclave = Ledger
    host.restore(before)
    mallory = host.client("mallory")
    mallory.send(b"put x 100")
    host.enclave = Patched
    host.restart()
    mallory.send(b"get x")
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)


def test_row_78_a_state_under_a_key_that_was_exchanged(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    earlier = host.snapshot()
    alice.send(b"add x 1")
    old_keyring, new_keyring = host.keyring, rotated_keyring(host)
    host.replace_keyring(new_keyring)
    alice.send(b"add x 1")
    rotated = host.snapshot()
    # The old key is served for the new state, ...
    attack.refused_at_load(host, partial(host.replace_keyring, old_keyring), CorruptedStore)
    # ... the new key for an old state, ...
    host.restore(earlier)
    attack.refused_at_load(host, partial(host.replace_keyring, new_keyring), RollbackDetected)
    # ... or for one that went on from there without it.
    host.restore(earlier)
    bob = host.client("bob")
    for _ in range(4):
        bob.send(b"add x 1")
    attack.refused_at_load(host, partial(host.replace_keyring, new_keyring), ForkDetected)
    host.restore(rotated)
    assert alice.send(b"get x").payload == b"2" and alice.verdict is None
    # Both of old: that is a rollback like any other.
    host.restore(earlier)
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)


def test_row_79_a_crash_halfway_through_the_exchange_of_a_key(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    alice.send(b"add x 1")
    for cut in ("before the keyring is stored", "before a record", "in the first commit", "after it"):
        keyring = rotated_keyring(host)
        if cut == "before the keyring is stored":
            host.start()
        else:
            host.replace_keyring(keyring)
            host.crash()
        if cut == "in the first commit":
            for before in (True, False):
                with host.crashing("append", before=before):
                    send_unheard(alice, b"add x 0")
                alice.recover()
        if cut == "after it":
            alice.send(b"add x 0")
            host.crash()
        assert alice.send(b"add x 0").payload == b"1" and alice.verdict is None, cut
    attack.saw("ok")


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


def test_row_81_a_restore_that_nobody_allowed(host: MaliciousHost, attack: Attack) -> None:
    """Each client allows it for itself, and nobody for another one."""
    alice, bob = host.client("alice"), host.client("bob")
    alice.send(b"add x 1")
    bob.send(b"get x")
    backup = host.snapshot()
    alice.send(b"add x 1")
    bob.send(b"get x")
    host.restore(backup)
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)
    with host.refuses(RollbackDetected):
        bob.send(b"get x")
    # Restored again, now with the consent of one of them: the other one sees it all the same.
    host.restore(backup)
    alice.accept_rollback()
    assert alice.send(b"get x").payload == b"1" and alice.verdict is None
    with host.refuses(RollbackDetected):
        bob.send(b"get x")


def test_a_constraint_can_revoke_older_versions_of_the_code(host: MaliciousHost) -> None:
    with host.refuses(IdentityMismatch):
        host.client("alice", constraint="REVOKE:2 SEC:INSECURE")
    assert host.client("bob", constraint="REVOKE:1 SEC:INSECURE").send(b"get x").payload == b"nothing"
