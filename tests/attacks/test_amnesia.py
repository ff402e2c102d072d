"""Rows 51 to 53: the host forgets, or shows somebody who knows nothing an old state."""

from __future__ import annotations

from functools import partial

import pytest
from attack_steps import Attack, load_refused

from client import CorruptedStore, RollbackDetected, StoreReplaced
from host_store.adversary import MaliciousHost
from host_store.adversary.snapshot import flip_byte


def test_row_51_the_store_deleted_and_a_first_start(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    host.start_anew()
    with host.refuses(StoreReplaced):
        attack.refused_by_client(host, lambda: alice.send(b"add x 1"), StoreReplaced)
        alice.send(b"add x 1")
    host.restart()
    with host.refuses(StoreReplaced):
        alice.send(b"add x 1")
    alice.close()
    with host.refuses(StoreReplaced):
        host.client("alice")


def test_row_52_damaged_so_that_it_would_begin_anew(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    good, keyring = host.snapshot(), host.keyring
    damages = [None, b"", keyring[:-1], keyring + b"\x00", *(flip_byte(keyring, at) for at in (0, 20, 60, -1))]
    for damaged in damages:
        attack.refused_at_load(host, partial(host.replace_keyring, damaged), CorruptedStore)
        host.restore(good)
    # Nothing was made anew meanwhile: the same store goes on.
    assert alice.send(b"get x").payload == b"1"
    load_refused(host, partial(host.feed, []), CorruptedStore)


def test_row_53_an_old_state_to_a_newcomer(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"put price 1")
    old = host.snapshot()
    for _ in range(12):
        alice.send(b"put price 2")
    invite = alice.invite()
    host.restore(old)
    newcomer = host.client("newcomer")
    assert newcomer.send(b"get price").payload == b"1", "nobody has told it anything else"
    attack.found_when_caught_up(newcomer, alice)
    host.restore(old)
    invited = host.client("invited", invite=invite)
    attack.refused_by_enclave(host, lambda: invited.send(b"get price"), RollbackDetected, invited)


def test_a_newcomer_with_an_invite_finds_a_deleted_store(host: MaliciousHost) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    invite = alice.invite()
    host.start_anew()
    with pytest.raises(StoreReplaced):
        host.client("invited", invite=invite)
