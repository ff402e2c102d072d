"""A client over several stores: what a mapping does, how batches part, scans merge, and what stays apart."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path

import pytest
from sharded_stores import OWNER, PARTITIONS, SETTINGS, Stores, key_in, stores_of

from client import InProcessTransport, RollbackDetected, StoreReplaced, SwapFailed
from client.sharded import Cluster, Mover, ShardedKeyValueClient, ShardsFailed
from client.sharded.scan import ShardScan
from wire.errors import InvalidInput, OutcomeUnknown, ShardMapForked, ShardMapInvalid, ShardMapRefused, StaleShardMap
from wire.kv import Get, Scan, Shards, Size
from wire.shard_map import open_shard_map, partition_of, shard_map_text, sign_shard_map


@pytest.fixture
def stores() -> Iterator[Stores]:
    with stores_of(3) as stores:
        yield stores


@pytest.fixture
def kv(stores: Stores) -> Iterator[ShardedKeyValueClient]:
    with stores.client("alice") as kv:
        yield kv


def by_size(stores: Stores) -> list[int]:
    """The places of the stores, that which owns most partitions last: who owns how many is chance."""
    return sorted(range(3), key=lambda place: len(stores.first.owned[place]))


def fill(kv: ShardedKeyValueClient, count: int = 200) -> dict[str, bytes]:
    entries = {f"k{number}": b"v%d" % number for number in range(count)}
    kv.update(entries)
    return entries


def test_it_is_a_mapping_over_all_stores(stores: Stores, kv: ShardedKeyValueClient) -> None:
    assert isinstance(kv, MutableMapping)
    entries = fill(kv)
    assert kv == entries and len(kv) == 200 and list(kv) == sorted(entries)
    parts = [stores.ask(place, Size())[0].entries for place in range(3)]  # type: ignore[union-attr]
    assert sum(parts) == 200 and all(parts)
    assert kv["k7"] == b"v7" and kv.get("none") is None and "k7" in kv
    assert kv.pop("k7") == b"v7" and kv.pop("k7", None) is None
    assert kv.compare_and_swap("k8", b"v8", b"new") and not kv.compare_and_swap("k8", b"v8", b"x")
    assert kv.popitem() == ("k0", b"v0") and kv.setdefault("k0", b"again") == b"again"
    del kv["k1"]
    with pytest.raises(KeyError):
        kv["k1"]
    kv.clear()
    assert len(kv) == 0 and "3 stores by shard map 1" in repr(kv)


def test_scans_are_merged_in_order_over_pages(kv: ShardedKeyValueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = fill(kv, 300)
    everything = sorted(entries.items())
    for size in (1, 7, 10_000):
        monkeypatch.setattr("client.sharded.scan.MAX_PAGE_ENTRIES", size)
        assert list(kv.scan()) == everything
    monkeypatch.setattr("client.sharded.scan.MAX_PAGE_ENTRIES", 5)
    assert list(kv.scan(prefix="k1")) == [entry for entry in everything if entry[0].startswith("k1")]
    assert list(kv.scan("k20", "k25")) == [entry for entry in everything if "k20" <= entry[0] < "k25"]
    assert list(kv.scan(limit=17)) == everything[:17] and list(kv.scan(limit=0)) == []
    assert list(kv.scan("z")) == [] == list(kv.scan(prefix="zzz"))
    with pytest.raises(InvalidInput):
        kv.scan("a", prefix="b")
    with pytest.raises(InvalidInput):
        kv.scan(limit=-1)


def test_a_batch_is_split_by_store_and_its_results_are_in_order(kv: ShardedKeyValueClient) -> None:
    keys = [f"k{number}" for number in range(30)]
    with kv.batch() as batch:
        for key in keys:
            batch.put(key, key.encode()).get(key)
    assert batch.results == [result for key in keys for result in (None, key.encode())]
    for operation in (Scan("", None, 1, 1), Size()):
        with pytest.raises(InvalidInput):
            kv.execute([operation])


def test_a_store_that_refuses_its_part_does_not_keep_the_others_from_theirs(kv: ShardedKeyValueClient) -> None:
    owned = kv.shards.owned
    here, there = key_in(set(owned[0])), key_in(set(owned[1]))
    kv[here] = b"old"
    with pytest.raises(ShardsFailed) as failed, kv.batch() as batch:
        batch.put(there, b"new").compare_and_swap(here, b"other", b"x").put(here, b"y")
    ids = [store.store_id for store in kv.shards.stores]
    assert set(failed.value.outcomes) == {ids[0], ids[1]} and failed.value.outcomes[ids[1]] == [None]
    swap = failed.value.errors[ids[0]]
    assert isinstance(swap, SwapFailed) and swap.position == 1 and set(failed.value.errors) == {ids[0]}
    assert kv[there] == b"new" and kv[here] == b"old"
    with pytest.raises(SwapFailed):  # one store alone: its own error
        kv.execute(batch.operations[1:])


async def test_the_asynchronous_client_does_the_same(stores: Stores) -> None:
    async with await stores.async_client() as kv:
        entries = {f"k{number}": b"v%d" % number for number in range(100)}
        await kv.update(entries)
        assert [entry async for entry in kv.scan()] == sorted(entries.items())
        assert await kv.size() == 100 and await kv.get("k99") == b"v99" and await kv.delete("k99")
        async with kv.on_topic("another").batch() as batch:
            batch.get("k99").get("k4")
        assert batch.results == [None, b"v4"] and "3 stores" in repr(kv)
        here, there = key_in(set(kv.shards.owned[0])), key_in(set(kv.shards.owned[1]))
        with pytest.raises(ShardsFailed):
            await kv.execute((await _batch(here, there)).operations)
        with stores.cluster("mover") as cluster:
            mover = Mover(cluster, OWNER)
            mover.begin_move(kv.shards.owned[0], 1)
            mover.settle()
        assert await kv.get(here) == entries[here] and kv.shards.version == 3 and kv.quarantined == {}
        with stores.cluster("mover") as cluster:
            mover = Mover(cluster, OWNER)
            mover.readdress(1, "http://elsewhere.invalid")
            mover.settle()
        await kv.refresh()
        assert await kv.get(here) == entries[here] and kv.shards.version == 4
        with pytest.raises(StaleShardMap):
            kv.show(stores.text)


async def _batch(here: str, there: str):
    from client import Batch

    return Batch().compare_and_swap(here, b"none", b"x").put(there, b"y")


# --- one store's trouble ---------------------------------------------------------------------------------


def test_a_rolled_back_store_is_quarantined_alone_and_named(stores: Stores) -> None:
    with stores.client("alice") as kv:
        fill(kv, 50)
    copy = stores.hosts[1].keep_copy()
    with stores.client("alice") as kv:
        fill(kv, 50)
    stores.hosts[1].roll_back(copy)
    with stores.client("alice") as kv:
        owned, caught = kv.shards.owned, kv.shards.stores[1].store_id
        well, ill = key_in(set(owned[0])), key_in(set(owned[1]))
        assert kv[well] == b"v" + well[1:].encode() and kv.quarantined == {}
        with pytest.raises(RollbackDetected) as verdict:
            kv[ill]
        assert any(caught.hex() in note for note in verdict.value.__notes__)
        assert set(kv.quarantined) == {caught}
        kv[well] = b"goes on"
        for touching in (lambda: list(kv.scan()), lambda: kv.get(ill), lambda: kv.put(ill, b"x")):
            with pytest.raises(RollbackDetected):
                touching()
        with pytest.raises(ShardsFailed) as failed:
            len(kv)
        assert set(failed.value.errors) == {caught}
        with pytest.raises(ShardsFailed) as failed:
            kv.update({well: b"1", ill: b"2"})
        assert isinstance(failed.value.errors[caught], RollbackDetected) and kv[well] == b"1"
    with stores.client("alice") as kv:  # it stays: the store's own client state says so
        assert kv[well] == b"1"
        with pytest.raises(RollbackDetected):
            kv[ill]


def test_a_store_that_is_gone_fails_alone(stores: Stores, kv: ShardedKeyValueClient) -> None:
    fill(kv, 50)
    stores.hosts[2].unreachable()
    owned = kv.shards.owned
    assert kv[key_in(set(owned[0]))]
    with pytest.raises(OutcomeUnknown):
        kv[key_in(set(owned[2]))]


def test_another_store_at_the_address_is_refused_before_anything_is_sent(stores: Stores) -> None:
    def crossed(store):
        return InProcessTransport(stores.hosts[(stores.stores.index(store) + 1) % 3])

    with stores.client("alice", reach=crossed) as kv, pytest.raises(StoreReplaced, match="the shard map names"):
        kv["k"] = b"v"
    assert not list((stores.folder / "client-alice").glob("*-*.state"))
    with stores.client("alice") as kv:
        kv["k"] = b"v"


def test_a_store_put_back_to_before_its_partitions_came_is_found_out_by_a_newcomer(stores: Stores) -> None:
    owned = stores.first.owned
    _, target, source = by_size(stores)
    copy = stores.hosts[target].keep_copy()
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        mover.begin_move(owned[source][:4], target)
        mover.settle()
        newest = shard_map_text(cluster.router.signed)
    stores.hosts[target].roll_back(copy)
    newcomer = Cluster.open(OWNER.public.hex(), newest, reach=stores.reach, **SETTINGS)
    with ShardedKeyValueClient(newcomer) as kv:
        for key in (key_in(set(owned[source][:4])), key_in(set(owned[target]))):
            with pytest.raises(ShardMapRefused, match="not on their way"):
                kv[key] = b"to an old state"
        with pytest.raises(ShardMapRefused):
            list(kv.scan())
        kv[key_in(set(owned[source][4:]))] = b"goes on"


def test_every_store_that_is_spoken_to_has_the_clients_map(stores: Stores) -> None:
    with stores.client("alice") as kv:
        kv.show(shard_map_text(sign_shard_map(OWNER, stores.first.next())))
        fill(kv, 40)
    for place in range(3):
        (status,) = stores.ask(place, Shards())
        assert open_shard_map(status.signed).version == 2  # type: ignore[union-attr, arg-type]


# --- which map holds -------------------------------------------------------------------------------------


def test_the_highest_map_is_remembered_and_an_older_one_refused(stores: Stores) -> None:
    newer = shard_map_text(sign_shard_map(OWNER, stores.first.next()))
    with stores.client("alice") as kv:
        kv.show(newer)
        assert kv.shards.version == 2
        with pytest.raises(StaleShardMap):
            kv.show(stores.text)
        assert kv.shards.version == 2
    with pytest.raises(StaleShardMap) as stale:  # also after a restart of the client
        Cluster.open(OWNER.public.hex(), stores.text, folder=stores.folder / "client-alice", **SETTINGS)
    assert stale.value.fault.value == "host"
    with stores.client("alice") as kv:
        assert kv.shards.version == 2


def test_two_maps_of_one_version_and_maps_of_others_are_refused(stores: Stores) -> None:
    from wire.crypto import SigningKey
    from wire.shard_map import ShardMap

    other = ShardMap.found(OWNER.public, stores.first.cluster, stores.stores[::-1], PARTITIONS)
    elsewhere = ShardMap.found(OWNER.public, b"\x02" * 16, stores.stores, PARTITIONS).next()
    stranger = SigningKey(b"\x09" * 32)
    forged = ShardMap.found(stranger.public, stores.first.cluster, stores.stores, PARTITIONS).next()
    with stores.client("alice") as kv:
        with pytest.raises(ShardMapForked):
            kv.show(shard_map_text(sign_shard_map(OWNER, other)))
        with pytest.raises(ShardMapInvalid, match="another cluster"):
            kv.show(shard_map_text(sign_shard_map(OWNER, elsewhere)))
        with pytest.raises(ShardMapInvalid, match="not signed by its owner"):
            kv.show(shard_map_text(sign_shard_map(stranger, forged)))
        assert kv.shards == stores.first
    with pytest.raises(ShardMapInvalid):
        Cluster.open(stranger.public.hex(), stores.text, **SETTINGS)


def test_what_a_sharded_client_cannot_do_without_is_said(stores: Stores, tmp_path: Path) -> None:
    owner = OWNER.public.hex()
    for arguments in ((owner, None), ("abc", stores.text), ("zz" * 32, stores.text)):
        with pytest.raises(InvalidInput):
            Cluster.open(*arguments, **SETTINGS)
    with pytest.raises(InvalidInput, match="no shard map"):
        Cluster.open(owner, folder=tmp_path / "new", **SETTINGS)
    with pytest.raises(InvalidInput, match="give a folder"):
        Cluster.open(owner, stores.text, state="x")
    with pytest.raises(ShardMapInvalid):
        Cluster.open(owner, "pmap-shards:2:", **SETTINGS)
    cluster = stores.cluster()
    cluster.close()
    cluster.close()
    with pytest.raises(InvalidInput, match="closed"):
        ShardedKeyValueClient(cluster)["k"]


def test_every_key_of_a_partition_goes_to_its_owner(stores: Stores, kv: ShardedKeyValueClient) -> None:
    entries = fill(kv, 64)
    for place in range(3):
        with stores.plain(place) as plain:
            mine = set(kv.shards.owned[place])
            assert dict(plain) == {
                key: value for key, value in entries.items() if partition_of(key, PARTITIONS) in mine
            }


def test_two_stores_that_refuse_one_old_map_are_no_fork(stores: Stores) -> None:
    """Both answers are to questions by the old map; by the second one the client knows the newer map already."""
    with stores.client() as late, stores.cluster("mover") as cluster:
        entries = fill(late)
        mover = Mover(cluster, OWNER)
        target, *sources = by_size(stores)
        for source in sources:
            mover.begin_move([mover.shards.owned[source][0]], target)
            mover.settle()
        late.update(entries)  # to all three stores, by map 1
        assert late.shards.version == mover.shards.version and late == entries


def test_a_refusal_that_another_thread_has_learned_from_already_is_no_fork(stores: Stores) -> None:
    """The question went out by an old map; before the answer was looked at, somebody else took the newer one."""
    with stores.client() as kv, stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        key = key_in(set(range(PARTITIONS)))
        kv[key] = b"here"
        router = kv._cluster.router
        for operation in (router.execute([Get(key)]), ShardScan(router, None, None, None, None).next()):
            asked = next(operation)  # by the map that holds now
            begin = mover.shards.owner_of(key)
            mover.begin_move([partition_of(key, PARTITIONS)], (begin + 1) % 3)
            mover.settle()
            answers = kv._cluster._perform(asked, "default")
            kv.refresh()
            with pytest.raises(StopIteration):
                while True:
                    answers = kv._cluster._perform(operation.send(answers), "default")
        assert kv[key] == b"here" and not kv.quarantined


def test_a_store_whose_map_is_another_of_the_same_version_is_a_fork(stores: Stores) -> None:
    with stores.client() as kv, stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        _, target, source = by_size(stores)
        key = key_in({mover.shards.owned[source][0]})
        kv[key] = b"here"
        mover.begin_move([mover.shards.owned[source][0]], target)
        mover.settle()
        other = replace(stores.first, version=mover.shards.version)
        kv.show(shard_map_text(sign_shard_map(OWNER, other)))
        with pytest.raises(ShardMapForked):
            kv[key]
