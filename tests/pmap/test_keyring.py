"""The keyring by itself: its keys, its sealed form, and everything that is none."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pmap.keyring import Generation, Keyring, check_sealing_key
from wire.codec import pack
from wire.crypto import SigningKey, derive_key, seal_once
from wire.errors import CorruptedStore, InvalidInput, LimitExceeded, Malformed, UnsupportedVersion, WrongKey
from wire.limits import MAX_KEY_GENERATIONS, MAX_KEYRING_BYTES
from wire.merkle import EMPTY_ROOT

STORE_ID, MASTER, SEALING_KEY = b"i" * 16, b"m" * 32, b"k" * 32
PREFIX = b"pmk\x01" + derive_key(SEALING_KEY, b"", b"key check")[:8]
SEED = derive_key(MASTER, STORE_ID, b"checkpoint signing")


def two_generations() -> Keyring:
    return Keyring(STORE_ID, MASTER).rotated(lambda length: b"n" * length, 7, b"r" * 32)


# --- keys ------------------------------------------------------------------------------------------------


def test_a_new_store_draws_its_id_and_secret_and_derives_the_rest() -> None:
    drawn = []

    def randomness(length: int) -> bytes:
        drawn.append(length)
        return bytes([len(drawn)]) * length

    keyring = Keyring.generate(randomness)
    assert drawn == [16, 32]
    assert (keyring.store_id, keyring.master) == (b"\x01" * 16, b"\x02" * 32)
    assert keyring.generations == (Generation(0, 0, EMPTY_ROOT, b"\x02" * 32),)
    assert keyring.signing_seed == derive_key(b"\x02" * 32, b"\x01" * 16, b"checkpoint signing")
    assert keyring.signing_key().public == SigningKey(keyring.signing_seed).public


def test_a_rotation_adds_a_generation_and_keeps_the_signing_key() -> None:
    keyring = two_generations()
    assert keyring.generations == (Generation(0, 0, EMPTY_ROOT, MASTER), Generation(1, 7, b"r" * 32, b"n" * 32))
    assert (keyring.master, keyring.signing_seed, keyring.store_id) == (b"n" * 32, SEED, STORE_ID)


def test_an_epoch_names_its_generation_and_each_epoch_has_its_own_key() -> None:
    first, second = Keyring(STORE_ID, MASTER), two_generations()
    unique = bytes(range(32))
    old, new = first.epoch(unique), second.epoch(unique)
    assert (old, new) == (bytes(4) + unique[4:], b"\x00\x00\x00\x01" + unique[4:])
    assert first.epoch(unique + b"more") == old
    assert first.log_key(old) == second.log_key(old) == derive_key(MASTER, old, b"log", STORE_ID)
    assert second.log_key(new) == derive_key(b"n" * 32, new, b"log", STORE_ID)
    with pytest.raises(CorruptedStore, match=r"generation 1 .* the keyring has 0 to 0"):
        first.log_key(new)


def test_as_many_generations_as_a_keyring_holds_are_added_and_no_more() -> None:
    keyring = Keyring(STORE_ID, MASTER)
    for _ in range(MAX_KEY_GENERATIONS - 1):
        keyring = keyring.rotated(os.urandom, 7, b"r" * 32)
    assert [one.number for one in keyring.generations] == list(range(MAX_KEY_GENERATIONS))
    assert Keyring.unseal(SEALING_KEY, keyring.seal(SEALING_KEY, os.urandom)) == keyring
    with pytest.raises(LimitExceeded):
        keyring.rotated(os.urandom, 7, b"r" * 32)


def test_generations_older_than_every_epoch_in_use_are_retired_and_never_the_newest() -> None:
    keyring = Keyring(STORE_ID, MASTER)
    epochs = [keyring.epoch(bytes(32))]
    for _ in range(3):
        keyring = keyring.rotated(os.urandom, 7, b"r" * 32)
        epochs.append(keyring.epoch(bytes(32)))
    for in_use, left in (
        (epochs, [0, 1, 2, 3]),
        ([epochs[1], epochs[3]], [1, 2, 3]),
        ([epochs[3]], [3]),
        ([], [3]),
        ([b"\x00\x00\x00\x09" + bytes(28)], [3]),
    ):
        retired = keyring.retired(set(in_use))
        assert [one.number for one in retired.generations] == left
        assert (retired.master, retired.signing_seed) == (keyring.master, keyring.signing_seed)


# --- sealing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyring", [Keyring(STORE_ID, MASTER), two_generations()])
def test_a_keyring_comes_back_from_its_blob(keyring: Keyring) -> None:
    blob = keyring.seal(SEALING_KEY, os.urandom)
    assert blob.startswith(PREFIX)
    assert Keyring.unseal(SEALING_KEY, blob) == keyring
    assert Keyring.decode(keyring.encode()) == keyring


def test_the_blob_is_the_fields_in_order_sealed_with_its_prefix() -> None:
    plaintext = pack([STORE_ID, SEED, [[0, 0, EMPTY_ROOT, MASTER], [1, 7, b"r" * 32, b"n" * 32]]])
    assert two_generations().encode() == plaintext
    sealed = seal_once(SEALING_KEY, b"keyring", plaintext, PREFIX, lambda length: b"\x05" * length)
    assert two_generations().seal(SEALING_KEY, lambda length: b"\x05" * length) == PREFIX + sealed


def test_every_altered_or_missing_byte_of_a_blob_is_found_and_named() -> None:
    blob = Keyring(STORE_ID, MASTER).seal(SEALING_KEY, os.urandom)
    for position in range(len(blob)):
        altered = bytearray(blob)
        altered[position] ^= 1
        expected = {3: UnsupportedVersion, **dict.fromkeys(range(4, 12), WrongKey)}.get(position, CorruptedStore)
        with pytest.raises(expected) as found:
            Keyring.unseal(SEALING_KEY, bytes(altered))
        assert type(found.value) is expected
    for length in range(len(blob)):
        with pytest.raises(CorruptedStore):
            Keyring.unseal(SEALING_KEY, blob[:length])
    with pytest.raises(CorruptedStore, match="not a keyring"):
        Keyring.unseal(bytes(32), blob[: len(PREFIX)])
    with pytest.raises(CorruptedStore):
        Keyring.unseal(SEALING_KEY, blob + b"\x00")
    with pytest.raises(UnsupportedVersion, match="version 9;"):
        Keyring.unseal(SEALING_KEY, blob[:3] + b"\x09" + blob[4:])
    with pytest.raises(WrongKey):
        Keyring.unseal(bytes(32), blob)


def test_a_blob_of_the_largest_size_is_looked_at_and_none_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Keyring(STORE_ID, MASTER).seal(SEALING_KEY, os.urandom)
    monkeypatch.setattr("pmap.keyring.MAX_KEYRING_BYTES", len(blob))
    assert Keyring.unseal(SEALING_KEY, blob).master == MASTER
    monkeypatch.setattr("pmap.keyring.MAX_KEYRING_BYTES", len(blob) - 1)
    with pytest.raises(CorruptedStore, match="not a keyring"):
        Keyring.unseal(SEALING_KEY, blob)


def generations(*numbers: int) -> list[list[Any]]:
    return [[number, 7, b"r" * 32, b"n" * 32] for number in numbers]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([STORE_ID, SEED], id="a field less"),
        pytest.param([STORE_ID, SEED, generations(0), 0], id="a field more"),
        pytest.param([STORE_ID[1:], SEED, generations(0)], id="a short id"),
        pytest.param([STORE_ID, SEED + b"x", generations(0)], id="a long seed"),
        pytest.param([STORE_ID, None, generations(0)], id="no seed"),
        pytest.param(["i" * 16, SEED, generations(0)], id="a text for an id"),
        pytest.param([STORE_ID, SEED, None], id="no generations"),
        pytest.param([STORE_ID, SEED, []], id="not one generation"),
        pytest.param([STORE_ID, SEED, generations(*range(MAX_KEY_GENERATIONS + 1))], id="too many"),
        pytest.param([STORE_ID, SEED, generations(0, 2)], id="one is missing"),
        pytest.param([STORE_ID, SEED, generations(1, 0)], id="in another order"),
        pytest.param([STORE_ID, SEED, generations(3, 3)], id="one twice"),
        pytest.param([STORE_ID, SEED, generations(-1)], id="a number below zero"),
        pytest.param([STORE_ID, SEED, generations(1 << 32)], id="a number of more than four bytes"),
        pytest.param([STORE_ID, SEED, [[True, 7, b"r" * 32, b"n" * 32]]], id="a truth value for a number"),
        pytest.param([STORE_ID, SEED, [[0, -1, b"r" * 32, b"n" * 32]]], id="a commit below zero"),
        pytest.param([STORE_ID, SEED, [[0, None, b"r" * 32, b"n" * 32]]], id="no commit"),
        pytest.param([STORE_ID, SEED, [[0, 7, b"r" * 31, b"n" * 32]]], id="a short root"),
        pytest.param([STORE_ID, SEED, [[0, 7, "r" * 32, b"n" * 32]]], id="a text for a root"),
        pytest.param([STORE_ID, SEED, [[0, 7, b"r" * 32, b"n" * 33]]], id="a long secret"),
        pytest.param([STORE_ID, SEED, [[0, 7, b"r" * 32, "n" * 32]]], id="a text for a secret"),
        pytest.param([STORE_ID, SEED, [[0, 7, b"r" * 32]]], id="no secret"),
    ],
)
def test_what_makes_no_sense_is_malformed_and_as_a_blob_corrupted(fields: list[Any]) -> None:
    with pytest.raises(Malformed):
        Keyring.decode(pack(fields))
    blob = PREFIX + seal_once(SEALING_KEY, b"keyring", pack(fields), PREFIX, os.urandom)
    with pytest.raises(CorruptedStore, match="altered"):
        Keyring.unseal(SEALING_KEY, blob)


def test_the_bounds_of_a_generations_number_and_commit_belong_to_them() -> None:
    fields = [STORE_ID, SEED, [[(1 << 32) - 1, 0, b"r" * 32, b"n" * 32]]]
    (generation,) = Keyring.decode(pack(fields)).generations
    assert (generation.number, generation.commit) == ((1 << 32) - 1, 0)


def test_more_bytes_than_a_keyring_may_have_are_malformed() -> None:
    with pytest.raises(Malformed, match="at most"):
        Keyring.decode(pack([STORE_ID, bytes(MAX_KEYRING_BYTES), generations(0)]))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "k" * 32, bytearray(32), None])
def test_what_is_no_sealing_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidInput):
        check_sealing_key(key)


def test_a_sealing_key_is_given_back() -> None:
    assert check_sealing_key(SEALING_KEY) is SEALING_KEY
