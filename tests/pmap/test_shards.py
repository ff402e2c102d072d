"""The rules of pmap/shards.py, against the enclave itself: which shard maps it takes, and what it serves by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sharded_stores import OWNER, PARTITIONS, Stores, key_in, stores_of

from client import MailFailed, SwapFailed
from pmap.kv import KeyValueEnclave
from wire.crypto import HASH_BYTES, SigningKey
from wire.errors import PartitionMoving, ShardMapRefused, WrongShard
from wire.kv import Get, Import, Install, Operation, PartitionScan, Purge, Put, Scan, Shards, Size, Swap
from wire.shard_map import (
    Arrival,
    Move,
    ShardMap,
    arrival_digest,
    encode_partitions,
    partition_of,
    sign_shard_map,
)

STRANGER = SigningKey(b"\x09" * 32)


@pytest.fixture
def stores() -> Iterator[Stores]:
    with stores_of(2) as stores:
        yield stores


def install(stores: Stores, place: int, shards: ShardMap, key: SigningKey = OWNER) -> bool:
    (changed,) = stores.ask(place, Install(sign_shard_map(key, shards)))
    return changed is True


def refused(stores: Stores, place: int, operation: Operation, why: str) -> int:
    """That the enclave refuses, for this reason, and is as before; the version of its map."""
    before = stores.ask(place, Shards())
    with pytest.raises(ShardMapRefused, match=why) as error:
        stores.ask(place, operation)
    assert stores.ask(place, Shards()) == before
    return error.value.version


def refused_map(stores: Stores, place: int, shards: ShardMap, why: str, key: SigningKey = OWNER) -> int:
    return refused(stores, place, Install(sign_shard_map(key, shards)), why)


def moving(stores: Stores, mover: bytes = b"\x05" * 32) -> ShardMap:
    """The map that begins a move of store 0's first two partitions to store 1."""
    return stores.first.next(move=Move(0, 1, stores.first.owned[0][:2], mover))


# --- who may, and when -----------------------------------------------------------------------------------


def test_nobody_but_the_owner_moves_anything(stores: Stores) -> None:
    begun = moving(stores)
    assert refused_map(stores, 0, replace(begun, owner_key=STRANGER.public), "not signed by its owner", STRANGER) == 1
    signed = bytearray(sign_shard_map(OWNER, begun))
    for place in range(0, len(signed), 7):
        forged = bytes(signed[:place]) + bytes([signed[place] ^ 1]) + bytes(signed[place + 1 :])
        with pytest.raises(ShardMapRefused):
            stores.ask(0, Install(forged))
    for garbage in (b"", b"\xc0", b"\x92\xc4\x00\xc4\x00", bytes(1000)):
        refused(stores, 0, Install(garbage), "shard map")
    assert stores.ask(0, Shards())[0].signed == sign_shard_map(OWNER, stores.first)  # type: ignore[union-attr]


def test_an_old_step_of_an_old_move_is_refused(stores: Stores) -> None:
    begun, empty = moving(stores), Arrival(0, bytes(HASH_BYTES))
    ended = begun.arrive(empty)
    later = ended.next()
    for place in (0, 1):
        assert install(stores, place, begun) and not install(stores, place, begun), "the same map again is no step"
        assert install(stores, place, ended)
        assert install(stores, place, later)
        for old in (stores.first, begun, ended):
            assert refused_map(stores, place, old, "is older") == later.version
        assert refused_map(stores, place, replace(later, stores=later.stores[::-1]), "another map of this") == 4


def test_maps_of_another_cluster_or_number_of_partitions_are_refused(stores: Stores) -> None:
    refused_map(stores, 0, replace(stores.first.next(), cluster=b"\x02" * 16), "another cluster")
    refused_map(stores, 0, replace(stores.first.next(), owners=stores.first.owners[:-1]), "another cluster")


def test_stores_keep_their_places_and_may_change_their_addresses(stores: Stores) -> None:
    ours = stores.first.stores
    turned = replace(stores.first.next(stores=ours[::-1]), owners=tuple(1 - owner for owner in stores.first.owners))
    other_key = stores.first.next(stores=[ours[0], ours[1]._replace(checkpoint_key=bytes(32))])
    for shards in (turned, other_key):
        refused_map(stores, 0, shards, "changed its place")
    assert install(stores, 0, stores.first.next(stores=[ours[0]._replace(url="http://moved.invalid"), ours[1]]))


def test_nothing_changes_its_owner_without_a_move(stores: Stores) -> None:
    partition = stores.first.owned[0][0]
    owners = [1 if p == partition else owner for p, owner in enumerate(stores.first.owners)]
    at_once = replace(stores.first.next(), owners=tuple(owners))
    for place in (0, 1):
        refused_map(stores, place, at_once, "not on their way")
    begun = moving(stores)
    for place in (0, 1):
        install(stores, place, begun)
    # Not that way either: other partitions than those that are moving, nothing said of what has arrived.
    refused_map(stores, 1, replace(begun.next(), owners=tuple(owners)), "not on their way")
    moved = set(begun.move.partitions)  # type: ignore[union-attr]
    both = tuple(1 if p in moved else owner for p, owner in enumerate(stores.first.owners))
    for place in (0, 1):
        refused_map(stores, place, replace(begun.next(), owners=both), "without saying what has arrived")


def test_a_store_that_is_left_out_of_the_map_keeps_what_it_owns(stores: Stores) -> None:
    alone = ShardMap(OWNER.public, stores.first.cluster, 2, stores.first.stores[:1], (0,) * PARTITIONS)
    refused_map(stores, 1, alone, "changed its place")


def test_the_target_owns_nothing_until_exactly_what_was_signed_has_arrived(stores: Stores) -> None:
    with stores.plain(1) as mover:
        begun = moving(stores, bytes.fromhex(mover.client.client_id))
        for place in (0, 1):
            install(stores, place, begun)
        keys = sorted(key_in(set(begun.move.partitions), number) for number in range(3))  # type: ignore[union-attr]
        digest = bytes(HASH_BYTES)
        for key in keys:
            digest = arrival_digest(digest, key, b"v")
        whole = Arrival(3, digest)
        refused_map(stores, 1, begun.arrive(whole), "not what is here")
        for part in ([(keys[0], b"v")], [(keys[1], b"v"), (keys[2], b"v")]):
            refused_map(stores, 1, begun.arrive(whole), "not what is here")
            mover.execute([Import(2, part)])
        for wrong in (Arrival(2, digest), Arrival(3, bytes(HASH_BYTES)), Arrival(0, bytes(HASH_BYTES))):
            refused_map(stores, 1, begun.arrive(wrong), "not what is here")
        with pytest.raises(WrongShard):
            mover.get(keys[0])
        assert dict(mover.scan()) == {} and mover.usage().entries == 0
        assert install(stores, 1, begun.arrive(whole))
        assert dict(mover.scan()) == dict.fromkeys(keys, b"v") and len(mover) == 3


def test_entries_are_taken_from_the_mover_in_order_and_of_the_moving_partitions(stores: Stores) -> None:
    begun = moving(stores)
    move = begun.move
    assert move is not None
    keys = sorted(key_in(set(move.partitions), number) for number in range(3))
    other = key_in(set(stores.first.owned[1]))
    with stores.plain(1) as mover:
        named = replace(begun, move=move._replace(mover=bytes.fromhex(mover.client.client_id)))

        def not_taken(entries: list[tuple[str, bytes]], why: str, version: int = 2) -> None:
            with pytest.raises(ShardMapRefused, match=why):
                mover.execute([Import(version, entries)])

        not_taken([(keys[0], b"v")], "nothing is on its way")
        for place in (0, 1):
            install(stores, place, named)
        not_taken([(keys[0], b"v")], "nothing is on its way", 1)
        not_taken([(keys[1], b"v"), (keys[0], b"v")], "in the order")
        not_taken([(keys[0], b"v"), (keys[0], b"v")], "in the order")
        not_taken([(other, b"v")], "another partition")
        refused(stores, 1, Import(2, [(keys[0], b"v")]), "somebody else")
        refused(stores, 0, Import(2, [(keys[0], b"v")]), "nothing is on its way")
        mover.execute([Import(2, [(keys[0], b"v")])])
        not_taken([(keys[0], b"again")], "in the order")


# --- the first map ---------------------------------------------------------------------------------------


def test_a_new_store_gets_nothing_but_by_the_first_map_or_a_move() -> None:
    with stores_of(2, found=False) as stores:
        with pytest.raises(WrongShard) as unfounded:
            stores.ask(0, PartitionScan(encode_partitions([0], PARTITIONS), "", None, 10, 10))
        assert unfounded.value.version == 0
        assert stores.ask(0, Shards())[0] == (None, False, None)
        refused_map(stores, 0, stores.first.next(), "owns nothing until")
        stores.ask(0, Put("k", b"v"))
        refused_map(stores, 0, stores.first, "entries already")
        assert install(stores, 1, stores.first)


def test_an_enclave_that_names_its_owner_takes_no_other_ones_map() -> None:
    class Owned(KeyValueEnclave):
        shard_owner = OWNER.public.hex()

    with stores_of(1, found=False, enclave=Owned) as stores:
        strange = replace(stores.first, owner_key=STRANGER.public)
        refused_map(stores, 0, strange, "not signed by its owner", STRANGER)
        assert install(stores, 0, stores.first)


# --- what is served --------------------------------------------------------------------------------------


def test_owned_partitions_are_served_moving_ones_read_and_others_refused(stores: Stores) -> None:
    mine, leaving = set(stores.first.owned[0]), set(stores.first.owned[0][:2])
    stays, leaves, foreign = key_in(mine - leaving), key_in(leaving), key_in(set(stores.first.owned[1]))
    stores.ask(0, Put(stays, b"1"), Put(leaves, b"2"))
    install(stores, 0, moving(stores))
    stores.hosts[0].restart()  # it is all in the store
    assert stores.ask(0, Get(stays), Get(leaves)) == [b"1", b"2"]
    stores.ask(0, Put(stays, b"3"))
    for write in (Put(leaves, b"x"), Swap(leaves, b"2", None)):
        with pytest.raises(PartitionMoving) as waits:
            stores.ask(0, write)
        assert (waits.value.partition, waits.value.version) == (partition_of(leaves, PARTITIONS), 2)
    for operation in (Get(foreign), Put(foreign, b"x"), Swap(foreign, None, b"x")):
        with pytest.raises(WrongShard) as elsewhere:
            stores.ask(0, Put(stays, b"undone"), operation)
        assert not isinstance(elsewhere.value, PartitionMoving)
    assert stores.ask(0, Get(stays)) == [b"3"]


def test_a_scan_of_partitions_shows_them_and_no_other_and_refuses_what_is_not_owned(stores: Stores) -> None:
    owned = stores.first.owned[0]
    keys = [key_in({partition}) for partition in owned]
    stores.ask(0, *(Put(key, b"v") for key in keys))

    def scan(*partitions: int) -> list[str]:
        wanted = encode_partitions(partitions, PARTITIONS)
        (page,) = stores.ask(0, PartitionScan(wanted, "", None, 100, 10_000))
        return [key for key, _ in page.entries]  # type: ignore[union-attr]

    assert scan(*owned) == sorted(keys) and scan(owned[0]) == [keys[0]] and scan() == []
    with pytest.raises(WrongShard):
        scan(owned[0], stores.first.owned[1][0])
    for wrong in (b"", b"\xff" * 2 + b"\x00", b"\xff\xff\xff"):
        with pytest.raises(MailFailed):
            stores.ask(0, PartitionScan(wrong, "", None, 100, 10_000))


def test_pages_of_scans_and_purges_look_at_a_bounded_number_of_keys(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmap.kv.MAX_EXAMINED_KEYS", 10)
    move = moving(stores).move
    assert move is not None
    keys = [key_in(set(stores.first.owned[0]), number) for number in range(40)]
    stores.ask(0, *(Put(key, b"v") for key in keys))
    wanted = encode_partitions(move.partitions, PARTITIONS)
    start, found, pages = "", [], 0
    while start is not None:
        (page,) = stores.ask(0, PartitionScan(wanted, start, None, 100, 10_000))
        found += [key for key, _ in page.entries]  # type: ignore[union-attr]
        start, pages = page.next, pages + 1  # type: ignore[union-attr]
    moved = sorted(key for key in keys if partition_of(key, PARTITIONS) in move.partitions)
    assert found == moved and pages >= 4
    begun = moving(stores)
    install(stores, 0, begun)
    install(stores, 0, begun.arrive(Arrival(len(moved), bytes(HASH_BYTES))))
    assert stores.ask(0, Size())[0].entries == 40 - len(moved)  # type: ignore[union-attr]
    (shown,) = stores.ask(0, Scan("", None, 5, 10_000))
    assert not {key for key, _ in shown.entries} & set(moved)  # type: ignore[union-attr]
    purges = 1
    while stores.ask(0, Purge(10)) == [True]:
        purges += 1
    assert purges == 4 and stores.ask(0, Purge(10)) == [False] and not stores.ask(0, Shards())[0].residue  # type: ignore[union-attr]
    assert stores.ask(0, Size())[0].used_bytes == sum(13 + len(key) for key in keys if key not in moved)  # type: ignore[union-attr]


def test_a_step_in_a_mail_that_fails_is_undone_with_it(stores: Stores) -> None:
    stays = key_in(set(stores.first.owned[0][2:]))
    leaves = key_in(set(stores.first.owned[0][:2]))
    step = Install(sign_shard_map(OWNER, moving(stores)))
    with pytest.raises(SwapFailed):
        stores.ask(0, step, Get(stays), Swap(stays, b"other", b"x"))
    stores.ask(0, Put(leaves, b"still taken"))
    with pytest.raises(PartitionMoving):
        stores.ask(0, step, Put(leaves, b"x"))
    stores.ask(0, Put(leaves, b"still taken"))
