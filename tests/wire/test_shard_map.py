"""Shard maps: strict and signed bytes, partitions, and rendezvous hashing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codec import pack, unpack
from wire.crypto import SigningKey, sha256
from wire.errors import InvalidInput, Malformed, ShardMapInvalid
from wire.limits import MAX_PARTITIONS, MAX_SHARD_MAP_BYTES, MAX_SHARD_URL_BYTES, MAX_SHARDS
from wire.mail import MAX_COUNTER
from wire.shard_map import (
    Arrival,
    Move,
    ShardMap,
    ShardStore,
    arrival_digest,
    decode_partitions,
    encode_partitions,
    open_shard_map,
    parse_shard_map_text,
    partition_of,
    rendezvous,
    shard_map_text,
    sign_shard_map,
)

KEY = SigningKey(b"\x07" * 32)


def stores(count: int) -> list[ShardStore]:
    return [ShardStore(number.to_bytes(16, "big"), b"\x03" * 32, f"https://s{number}") for number in range(count)]


def found(count: int = 3, partitions: int = 64) -> ShardMap:
    return ShardMap.found(KEY.public, b"\x01" * 16, stores(count), partitions)


def variants() -> list[ShardMap]:
    first = found()
    begun = first.next(move=Move(0, 1, first.owned[0][:3], b"\x05" * 32))
    return [first, begun, begun.arrive(Arrival(7, b"\x06" * 32)), begun.next(), found(1, 1), found(MAX_SHARDS, 9)]


@pytest.mark.parametrize("shards", variants())
def test_a_map_comes_back_as_it_was_signed(shards: ShardMap) -> None:
    signed = sign_shard_map(KEY, shards)
    assert open_shard_map(signed) == open_shard_map(signed, KEY.public) == shards
    assert parse_shard_map_text(f"\n {shard_map_text(signed)}\n") == signed


def test_the_largest_map_has_room() -> None:
    largest = [
        ShardStore(number.to_bytes(16, "big"), b"\x03" * 32, "x" * MAX_SHARD_URL_BYTES) for number in range(MAX_SHARDS)
    ]
    owners = tuple(partition % MAX_SHARDS for partition in range(MAX_PARTITIONS))
    first = ShardMap(KEY.public, b"\x01" * 16, 1 << 62, tuple(largest), owners)
    begun = first.next(move=Move(0, 1, first.owned[0], b"\x05" * 32))
    signed = sign_shard_map(KEY, begun.arrive(Arrival(1 << 62, b"\x06" * 32)))
    assert MAX_SHARD_MAP_BYTES / 2 < len(signed) <= MAX_SHARD_MAP_BYTES
    open_shard_map(signed)


def test_every_flipped_byte_and_every_cut_is_refused() -> None:
    signed = sign_shard_map(KEY, variants()[2])
    for place in range(len(signed)):
        flipped = bytearray(signed)
        flipped[place] ^= 0x01
        for key in (None, KEY.public):
            with pytest.raises(ShardMapInvalid):
                open_shard_map(bytes(flipped), key)
    for end in range(0, len(signed), 5):
        with pytest.raises(ShardMapInvalid):
            open_shard_map(signed[:end])
    with pytest.raises(ShardMapInvalid):
        open_shard_map(signed + b"\x00")


def test_another_ones_signature_is_refused() -> None:
    stranger = SigningKey(b"\x08" * 32)
    with pytest.raises(InvalidInput):
        sign_shard_map(stranger, found())
    body, _ = unpack(sign_shard_map(KEY, found()), MAX_SHARD_MAP_BYTES)
    by_stranger = pack([body, stranger.sign(b"pmap/1 shard map" + body)])
    for key in (None, KEY.public, stranger.public):
        with pytest.raises(ShardMapInvalid):
            open_shard_map(by_stranger, key)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    for bytes_ in (garbage, pack([garbage, bytes(64)]), pack([garbage, KEY.sign(b"pmap/1 shard map" + garbage)])):
        with pytest.raises(ShardMapInvalid):
            open_shard_map(bytes_, KEY.public)
        with pytest.raises(ShardMapInvalid):
            open_shard_map(bytes_)


def test_a_map_that_contradicts_itself_is_not_made() -> None:
    first = found()
    begun = variants()[1]
    move = begun.move
    assert move is not None
    wrong = [
        {"version": 0},
        {"version": MAX_COUNTER + 1},
        {"owner_key": b""},
        {"cluster": b""},
        {"stores": ()},
        {"stores": (*first.stores[:2], first.stores[0])},
        {"stores": (*first.stores[:2], first.stores[2]._replace(store_id=bytes(15)))},
        {"stores": (*first.stores[:2], first.stores[2]._replace(checkpoint_key=bytes(33)))},
        {"stores": (*first.stores[:2], first.stores[2]._replace(url=""))},
        {"stores": (*first.stores[:2], first.stores[2]._replace(url="a\nb"))},
        {"stores": (*first.stores[:2], first.stores[2]._replace(url="x" * 257))},
        {"owners": ()},
        {"owners": (3, *first.owners[1:])},
        {"move": move._replace(target=0)},
        {"move": move._replace(target=-1)},
        {"move": move._replace(target=3)},
        {"move": move._replace(source=-1)},
        {"move": move._replace(source=3)},
        {"move": move._replace(partitions=())},
        {"move": move._replace(partitions=move.partitions[::-1])},
        {"move": move._replace(partitions=(*move.partitions, 64))},
        {"move": move._replace(partitions=first.owned[1][:1])},
        {"move": move._replace(mover=b"")},
        {"move": move._replace(arrived=Arrival(1, bytes(32)))},
    ]
    for change in wrong:
        with pytest.raises(Malformed):
            replace(first, **change)
    ended = begun.arrive(Arrival(1, bytes(32)))
    assert ended.move is not None
    for arrived in (Arrival(-1, bytes(32)), Arrival(MAX_COUNTER + 1, bytes(32)), Arrival(1, b"")):
        with pytest.raises(Malformed):
            replace(ended, move=ended.move._replace(arrived=arrived))
    with pytest.raises(Malformed):
        replace(ended, move=ended.move._replace(source=3))


def test_the_bounds_of_a_map_belong_to_it() -> None:
    first = found(2, 4)
    assert replace(first, version=MAX_COUNTER).version == MAX_COUNTER
    shortest = first.stores[0]._replace(url="x")
    assert replace(first, stores=(shortest, first.stores[1])).stores[0] == shortest
    back = replace(first, owners=(1, 1, 1, 1)).next(move=Move(1, 0, (0, 3), b"\x05" * 32))
    for entries in (0, MAX_COUNTER):
        arrived = back.arrive(Arrival(entries, bytes(32)))
        assert arrived.move == Move(1, 0, (0, 3), b"\x05" * 32, Arrival(entries, bytes(32)))


def test_what_arrived_belongs_to_the_target_in_the_next_version_and_nothing_else_changes() -> None:
    first = replace(found(3, 8), owners=(0, 0, 0, 1, 1, 2, 2, 2))
    begun = first.next(move=Move(0, 2, (1, 2), b"\x05" * 32))
    assert (begun.version, begun.owners, begun.stores) == (2, first.owners, first.stores)
    ended = begun.arrive(Arrival(7, bytes(32)))
    assert (ended.version, ended.owners, ended.stores) == (3, (0, 2, 2, 1, 1, 2, 2, 2), first.stores)
    assert ended.owned == ((0,), (3, 4), (1, 2, 5, 6, 7))
    for nothing_on_its_way in (first, ended, ended.next()):
        with pytest.raises(AssertionError):
            nothing_on_its_way.arrive(Arrival(7, bytes(32)))


def test_the_next_map_may_have_other_stores_and_gives_up_a_move() -> None:
    first = variants()[1]
    grown = first.next(stores=stores(4))
    assert (grown.version, grown.stores, grown.owners) == (3, tuple(stores(4)), first.owners)
    assert grown.move is None and first.next().stores == first.stores


def test_a_store_and_the_owner_of_a_key_are_found_by_their_place() -> None:
    shards = replace(found(3, 4), owners=(2, 0, 1, 2))
    for key in ("", "a", "ключ", "key 17"):
        assert shards.owner_of(key) == shards.owners[partition_of(key, 4)]
    assert [shards.place_of(store.store_id) for store in shards.stores] == [0, 1, 2]
    assert shards.place_of(b"\xff" * 16) is None


def test_a_text_of_any_length_up_to_the_bound_is_read_back() -> None:
    assert shard_map_text(b"\xfb\xff") == "pmap-shards:1:-_8"
    assert shard_map_text(b"\x5d\x75\xd7") == "pmap-shards:1:XXXX"
    longest = 3 * (MAX_SHARD_MAP_BYTES // 3 + 1)
    for length in (1, 2, 3, 4, 5, 6, 7, 8, longest):
        assert parse_shard_map_text(shard_map_text(b"\xa5" * length)) == b"\xa5" * length
    with pytest.raises(ShardMapInvalid):
        parse_shard_map_text(shard_map_text(bytes(longest + 1)))


def test_texts_of_another_spelling_are_refused() -> None:
    text = shard_map_text(sign_shard_map(KEY, found()))
    for wrong in (
        "",
        text[:-2],
        text + "=",
        text.replace("pmap-shards:1", "pmap-shards:2"),
        text + "!",
        text[:-1] + "é",
    ):
        with pytest.raises(ShardMapInvalid):
            open_shard_map(parse_shard_map_text(wrong))


@given(st.integers(1, 200), st.data())
def test_sets_of_partitions_come_back(partitions: int, data: st.DataObject) -> None:
    members = data.draw(st.sets(st.integers(0, partitions - 1)))
    encoded = encode_partitions(members, partitions)
    assert decode_partitions(encoded, partitions) == sorted(members)
    with pytest.raises(Malformed):
        decode_partitions(encoded + b"\x00", partitions)
    with pytest.raises(Malformed):
        decode_partitions(encode_partitions([partitions], partitions + 8), partitions)


def test_keys_spread_evenly_over_partitions_and_partitions_over_stores() -> None:
    counts = Counter(partition_of(f"key {number}", 32) for number in range(6400))
    assert set(counts) == set(range(32)) and max(counts.values()) < 300 and min(counts.values()) > 120
    owned = [len(each) for each in found(4, 1024).owned]
    assert sum(owned) == 1024 and min(owned) > 200 and max(owned) < 312


def test_a_store_more_takes_its_part_and_changes_nothing_else() -> None:
    ids = [store.store_id for store in stores(5)]
    before = [rendezvous(partition, ids[:4]) for partition in range(1024)]
    after = [rendezvous(partition, ids) for partition in range(1024)]
    changed = {owner for old, owner in zip(before, after, strict=True) if old != owner}
    assert changed == {4} and 150 < after.count(4) < 260


def test_the_owner_of_a_partition_is_the_store_with_the_highest_hash() -> None:
    ids = [store.store_id for store in stores(5)]
    for partition in (0, 1, 255, 256, 65_535):
        tail = partition.to_bytes(4, "big")
        hashes = [sha256(b"pmap/1 rendezvous" + store_id + tail) for store_id in ids]
        assert rendezvous(partition, ids) == hashes.index(max(hashes))


def test_the_digest_over_what_arrived_covers_each_key_with_its_length_and_each_value() -> None:
    one = sha256(b"pmap/1 arrival" + bytes(32) + b"\x00\x00\x00\x02" + "ю".encode() + b"value")
    assert arrival_digest(bytes(32), "ю", b"value") == one
    two = sha256(b"pmap/1 arrival" + one + b"\x00\x00\x01\x00" + b"k" * 256)
    assert arrival_digest(one, "k" * 256, b"") == two


def test_the_partition_of_a_key_is_fixed_for_ever() -> None:
    assert [partition_of(key, 1024) for key in ("", "a", "ключ")] == [544, 784, 436]
