"""Rows 92 to 97: many stores behind one client, and a shard map that only its owner makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from attack_steps import Saw
from sharded_stores import OWNER, Stores, key_in, stores_of

from client import InProcessTransport, RollbackDetected, StoreReplaced
from client.sharded import Mover
from wire.crypto import SigningKey
from wire.errors import ShardMapRefused, StaleShardMap, WrongShard
from wire.kv import Install, Shards
from wire.shard_map import Move, sign_shard_map


@pytest.fixture
def stores() -> Iterator[Stores]:
    with stores_of(2) as stores:
        yield stores


def move(stores: Stores, target: int = 1) -> None:
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        mover.begin_move(stores.first.owned[0][:4], target)
        mover.settle()


def signed_at(stores: Stores, place: int) -> bytes:
    (status,) = stores.ask(place, Shards())
    assert not isinstance(status, bytes | bool | None)
    return status.signed  # type: ignore[union-attr, return-value]


def test_row_92_an_old_shard_map(stores: Stores, saw: Saw) -> None:
    with stores.client("alice") as kv:
        move(stores)
        kv.refresh()
        version = kv.shards.version
        with pytest.raises(StaleShardMap):
            kv.show(stores.text)
        assert kv.shards.version == version == 3
    saw("C StaleShardMap")


def test_row_93_partitions_moved_without_their_owner(stores: Stores, saw: Saw) -> None:
    host = SigningKey(b"\x66" * 32)
    begun = stores.first.next(move=Move(0, 1, stores.first.owned[0], b"\x05" * 32))
    for shards in (replace(begun, owner_key=host.public), replace(stores.first, owner_key=host.public)):
        for place in (0, 1):
            with pytest.raises(ShardMapRefused):
                stores.ask(place, Install(sign_shard_map(host, shards)))
            assert signed_at(stores, place) == sign_shard_map(OWNER, stores.first)
    saw("E ShardMapRefused")


def test_row_94_an_old_move_again(stores: Stores, saw: Saw) -> None:
    seen = [sign_shard_map(OWNER, stores.first)]
    key = key_in(set(stores.first.owned[0][:4]))
    with stores.client("alice") as kv:
        kv[key] = b"before"
        for target in (1, 0):
            with stores.cluster("mover") as cluster:
                mover = Mover(cluster, OWNER, lambda _: seen.append(cluster.router.signed))
                mover.begin_move(stores.first.owned[0][:4], target)
                mover.settle()
            kv[key] = b"at %d" % target
        newest = signed_at(stores, 0)
        for signed in dict.fromkeys(seen):
            for place in (0, 1):
                if signed != newest:
                    with pytest.raises(ShardMapRefused):
                        stores.ask(place, Install(signed))
                assert signed_at(stores, place) == newest
        assert kv[key] == b"at 0" and len(set(seen)) == 5
    saw("E ShardMapRefused")


def test_row_95_a_write_by_an_old_map(stores: Stores, saw: Saw) -> None:
    key = key_in(set(stores.first.owned[0][:4]))
    with stores.client("alice") as kv, stores.plain(0) as by_old_map:
        kv[key] = b"1"
        move(stores)
        with pytest.raises(WrongShard) as refused:
            by_old_map[key] = b"lost?"
        assert refused.value.version == 3
        kv[key] = b"2"
        assert dict(kv.scan()) == {key: b"2"}
    saw("E WrongShard")


def test_row_96_another_store_at_the_address(stores: Stores, saw: Saw) -> None:
    def crossed(store):
        return InProcessTransport(stores.hosts[1 - stores.stores.index(store)])

    sent = [len(host.sent) for host in stores.hosts]
    with stores.client("alice", reach=crossed) as kv, pytest.raises(StoreReplaced):
        kv["k"] = b"v"
    assert sent == [len(host.sent) for host in stores.hosts], "no hello and no mail"
    saw("C StoreReplaced")


def test_row_97_one_store_of_several_rolled_back(stores: Stores, saw: Saw) -> None:
    well, ill = (key_in(set(stores.first.owned[place])) for place in (0, 1))
    with stores.client("alice") as kv:
        kv.update({well: b"1", ill: b"1"})
    copy = stores.hosts[1].keep_copy()
    with stores.client("alice") as kv:
        kv.update({well: b"2", ill: b"2"})
    stores.hosts[1].roll_back(copy)
    with stores.client("alice") as kv:
        for _ in range(2):
            with pytest.raises(RollbackDetected):
                kv[ill]
            assert kv[well] == b"2"
        assert list(kv.quarantined) == [stores.stores[1].store_id]
    saw("E RollbackDetected")
