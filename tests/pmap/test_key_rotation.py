"""Rotating a store's key: cut off anywhere it loses nothing, and old keys are not served (attack rows 78, 79)."""

from __future__ import annotations

import os

import pytest
from sealed_store import Counter, SealedStore

from pmap.keyring import Generation, Keyring
from pmap.tee.simulated import SimulatedTee
from wire.errors import CorruptedStore, ForkDetected, LimitExceeded, Malformed, RollbackDetected
from wire.limits import MAX_KEY_GENERATIONS
from wire.record import decode_header

TEE = SimulatedTee(os.urandom(32), bytes(32))


def keyring_of(store: SealedStore) -> Keyring:
    return Keyring.unseal(TEE.sealing_key(Counter.seal_to), store.keyring)


def rotated_store(*, before: int = 3, after: int = 3) -> tuple[SealedStore, SealedStore]:
    """A store whose key was rotated after some commits, and a snapshot from just before."""
    store = SealedStore.found(Counter, TEE)
    core, _ = store.restart(Counter, TEE)
    for _ in range(before):
        store.call(core)
    snapshot = store.copy()
    core, keyring = store.restart(Counter, TEE, rotate=True)
    assert keyring is not None
    store.keyring = keyring
    for _ in range(after):
        store.call(core)
    return store, snapshot


def test_a_rotated_store_keeps_its_content_and_its_checkpoint_key() -> None:
    store, snapshot = rotated_store()
    assert store.count(Counter, TEE) == 7
    assert keyring_of(store).signing_key().public == keyring_of(snapshot).signing_key().public
    assert keyring_of(store).master != keyring_of(snapshot).master


def test_records_after_a_rotation_are_encrypted_under_the_new_generation() -> None:
    store, _ = rotated_store(before=2, after=2)
    generations = [int.from_bytes(decode_header(record).epoch[:4], "big") for record in store.records]
    assert generations == [0, 0, 0, 1, 1]


def test_a_crash_before_the_new_keyring_is_stored_changes_nothing() -> None:
    _, store = rotated_store()
    for _ in range(3):
        _, keyring = store.restart(Counter, TEE, rotate=True)
        assert keyring is not None  # the host dies here, each time
    assert store.count(Counter, TEE) == 4


def test_a_crash_after_the_new_keyring_and_before_a_record_loses_nothing() -> None:
    _, store = rotated_store()
    _, keyring = store.restart(Counter, TEE, rotate=True)
    assert keyring is not None
    store.keyring = keyring  # the host dies here
    assert store.count(Counter, TEE) == 4
    assert store.count(Counter, TEE) == 5


def test_a_crash_between_two_rotations_loses_nothing() -> None:
    _, store = rotated_store()
    for expected in range(4, 8):
        assert store.count(Counter, TEE, rotate=True) == expected
    assert store.count(Counter, TEE) == 8


def test_the_old_keyring_does_not_open_records_of_the_new_generation() -> None:
    store, snapshot = rotated_store()
    store.keyring = snapshot.keyring
    with pytest.raises(CorruptedStore, match="generation 1"):
        store.restart(Counter, TEE)


def test_the_new_keyring_does_not_open_a_history_from_before_the_rotation() -> None:
    store, snapshot = rotated_store()
    snapshot.keyring = store.keyring
    assert snapshot.restart(Counter, TEE), "up to the rotation itself it is the same history"
    snapshot.records.pop()
    with pytest.raises(RollbackDetected, match="rotated at commit 4"):
        snapshot.restart(Counter, TEE)


def test_the_new_keyring_does_not_open_another_branch_from_before_the_rotation() -> None:
    store, snapshot = rotated_store()
    snapshot.records.pop()
    core, _ = snapshot.restart(Counter, TEE)  # the host forks: another commit 4, and some more
    for _ in range(3):
        snapshot.call(core)
    snapshot.keyring = store.keyring
    with pytest.raises(ForkDetected, match="as if they had not been"):
        snapshot.restart(Counter, TEE)


def test_a_branch_that_parts_at_the_rotation_itself_is_refused_too() -> None:
    store, snapshot = rotated_store()
    core, _ = snapshot.restart(Counter, TEE)  # on the old keyring, from the very commit of the rotation
    snapshot.call(core)
    snapshot.keyring = store.keyring
    with pytest.raises(ForkDetected, match="as if they had not been"):
        snapshot.restart(Counter, TEE)


def test_an_old_generation_is_dropped_once_no_record_of_the_window_needs_it() -> None:
    store, _ = rotated_store()
    assert [one.number for one in keyring_of(store).generations] == [0, 1]
    core, _ = store.restart(Counter, TEE)
    while decode_header(store.records[-1]).tail <= 4:
        store.call(core)
    count = len(store.records)
    assert store.count(Counter, TEE) == count
    assert [one.number for one in keyring_of(store).generations] == [1]
    assert store.count(Counter, TEE) == count + 1


def test_rotations_are_refused_while_too_many_generations_are_needed() -> None:
    keyring = Keyring.generate(os.urandom)
    for commit in range(1, MAX_KEY_GENERATIONS):
        keyring = keyring.rotated(os.urandom, commit, bytes(32))
    with pytest.raises(LimitExceeded):
        keyring.rotated(os.urandom, 99, bytes(32))
    assert Keyring.unseal(bytes(32), keyring.seal(bytes(32), os.urandom)) == keyring


def test_every_generation_has_its_own_record_keys() -> None:
    first = Keyring.generate(os.urandom)
    second = first.rotated(os.urandom, 1, bytes(32))
    unique = bytes(range(32))
    assert first.epoch(unique) != second.epoch(unique)
    assert second.log_key(first.epoch(unique)) == first.log_key(first.epoch(unique))
    assert second.log_key(second.epoch(unique)) != first.log_key(first.epoch(unique))


@pytest.mark.parametrize(
    "generations",
    [
        (Generation(0, 0, bytes(32), bytes(32)), Generation(2, 0, bytes(32), bytes(32))),
        (Generation(1, 0, bytes(32), bytes(32)), Generation(0, 0, bytes(32), bytes(32))),
        (Generation(0, 0, bytes(31), bytes(32)),),
        (Generation(0, 0, bytes(32), bytes(33)),),
        (Generation(1 << 32, 0, bytes(32), bytes(32)),),
        (Generation(0, -1, bytes(32), bytes(32)),),
        tuple(Generation(number, 0, bytes(32), bytes(32)) for number in range(MAX_KEY_GENERATIONS + 1)),
    ],
)
def test_an_impossible_keyring_is_not_decoded(generations: tuple[Generation, ...]) -> None:
    plaintext = Keyring(bytes(16), bytes(32), bytes(32), generations).encode()
    with pytest.raises(Malformed):
        Keyring.decode(plaintext)
