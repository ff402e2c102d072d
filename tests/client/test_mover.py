"""Moving partitions: no key is lost or doubled, wherever the mover, a host or an enclave dies; and who may do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from sharded_stores import OWNER, Crash, Stores, crash_at, key_in, stores_of

from client import KeyValueClient
from client.sharded import MoveFailed, Mover, ShardedKeyValueClient, plan
from wire.errors import InvalidInput, OutcomeUnknown, PartitionMoving, ShardMapForked, ShardMapRefused, WrongShard
from wire.kv import Import, Size
from wire.shard_map import Move, rendezvous


@pytest.fixture
def stores() -> Iterator[Stores]:
    with stores_of(2) as stores:
        yield stores


def fill(kv: ShardedKeyValueClient, count: int = 60) -> dict[str, bytes]:
    entries = {f"k{number}": b"v%d" % number for number in range(count)}
    kv.update(entries)
    return entries


def begin(stores: Stores, step: Callable[[str], object] = lambda _: None) -> None:
    """Move all of store 0's first partitions to store 1, for as long as ``step`` lets it."""
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER, step)
        mover.begin_move(stores.first.owned[0][:4], 1)
        mover.settle()


def settle(stores: Stores) -> None:
    with stores.cluster("mover") as cluster:
        Mover(cluster, OWNER).settle()


def check_whole(stores: Stores, entries: dict[str, bytes], name: str) -> None:
    """Every key is there once, for a client that knew the first map only, and nothing is left behind."""
    with stores.client(name) as kv:
        assert list(kv.scan()) == sorted(entries.items())
        assert len(kv) == len(entries)
    assert sum(stores.ask(place, Size())[0].entries for place in range(len(stores.hosts))) == len(entries)  # type: ignore[union-attr]


def test_a_move_takes_every_key_along_and_leaves_nothing_behind(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        steps: list[str] = []
        begin(stores, steps.append)
        assert [step for step in steps if step.startswith("install ")] == [
            f"install map {version} at {place}" for version in (2, 3) for place in (0, 1)
        ]
        assert kv == entries  # by the first map: it is told of the third
        assert kv.shards.version == 3 and len(kv.shards.owned[0]) == len(stores.first.owned[0]) - 4
    check_whole(stores, entries, "bob")
    status = [stores.ask(place, Size())[0] for place in (0, 1)]
    assert status[0].used_bytes + status[1].used_bytes == sum(12 + len(k) + len(v) for k, v in entries.items())  # type: ignore[union-attr]


def test_a_mover_that_dies_at_any_point_is_followed_by_one_that_settles(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.kv_operations.MAIL_OPERATIONS", 6)
    monkeypatch.setattr("client.sharded.mover.MAX_EXAMINED_KEYS", 30)
    moved, died_at = stores.first.owned[0][:4], set()
    with stores.client("alice") as kv:
        entries = fill(kv, 50)
        for number in count():
            owner = _owner(stores, moved)  # the partitions go forth and back
            try:
                with stores.cluster("mover") as cluster:
                    mover = Mover(cluster, OWNER, crash_at(number))
                    mover.begin_move(moved, 1 - owner)
                    mover.settle()
            except Crash as crash:
                died_at.add(str(crash))
            else:
                break
            key = key_in(set(moved), number % 8)
            assert kv[key] == entries[key], f"readable before it is settled, after {died_at}"
            settle(stores)
            assert _owner(stores, moved) == (owner if number == 0 else 1 - owner), "kept: done"
            assert dict(kv.scan()) == entries
    assert {step.split()[0] for step in died_at} == {
        *("sign", "kept", "install", "installed", "import", "imported", "purge", "purged")
    }
    assert number >= 18, "several imports and purges"
    check_whole(stores, entries, "bob")


def _owner(stores: Stores, partitions: Sequence[int]) -> int:
    with stores.cluster("mover") as cluster:
        (owner,) = {cluster.router.shards.owners[partition] for partition in partitions}
    return owner


@pytest.mark.parametrize("place", [0, 1])
def test_an_enclave_that_restarts_at_any_point_does_not_stop_the_move(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr("client.kv_operations.MAIL_OPERATIONS", 8)
    with stores.client("alice") as kv:
        entries = fill(kv)

        def restart(step: str) -> None:
            if not step.startswith(("sign", "kept")):
                stores.hosts[place].restart()

        begin(stores, restart)
        assert kv == entries
    check_whole(stores, entries, "bob")


@pytest.mark.parametrize("place", [0, 1])
def test_a_request_or_reply_lost_at_any_point_is_settled(stores: Stores, place: int) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        for target, lose in ((1, "lose_request"), (0, "lose_reply")):
            host, lost = stores.hosts[place], getattr(stores.hosts[place], lose)
            with stores.cluster("mover") as cluster:
                mover = Mover(cluster, OWNER, lambda step, lost=lost: None if "ed " in step else lost())
                mover.begin_move(stores.first.owned[0][:4], target)
                mover.settle()
            host.tamper = host.honest
            assert kv == entries
    check_whole(stores, entries, "bob")


# --- what clients see of it ------------------------------------------------------------------------------


def test_during_a_move_reads_go_on_writes_wait_and_scans_are_whole(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.kv_operations.MAIL_OPERATIONS", 5)
    moving = key_in(set(stores.first.owned[0][:4]))
    with stores.client("alice") as kv, stores.client("bob") as bob:
        entries = fill(kv)
        kv._cluster.router.delays = bob._cluster.router.delays = (0.0, 0.0)
        seen: list[str] = []
        frozen = False

        def look(step: str) -> None:
            nonlocal frozen
            seen.append(step)
            if step in ("installed map 3 at 0", "install map 3 at 1"):
                return  # owned by nobody: for as long as it takes to tell the target
            frozen = (frozen or step == "installed map 2 at 0") and step != "installed map 3 at 1"
            assert list(bob.scan()) == sorted(entries.items()), step
            assert bob[moving] == entries[moving]
            if frozen:
                with pytest.raises(PartitionMoving) as waited:
                    kv[moving] = b"lost?"
                assert waited.value.version == 2

        begin(stores, look)
        assert any(step.startswith("import") for step in seen)
        kv[moving] = b"written"
        assert bob[moving] == b"written"


def test_a_scan_that_a_move_overtakes_leaves_nothing_out_and_gives_nothing_twice(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.sharded.scan.MAX_PAGE_ENTRIES", 3)
    with stores.client("alice") as kv:
        entries = fill(kv)
        for after in (1, 10, 30, 55):
            with stores.cluster("mover") as cluster:
                back = cluster.router.shards.owners[stores.first.owned[0][0]]
            scan, found = kv.scan(), []
            for entry in scan:
                found.append(entry)
                if len(found) == after:
                    with stores.cluster("mover") as cluster:
                        mover = Mover(cluster, OWNER)
                        mover.begin_move(stores.first.owned[0][:4], 1 - back)
                        mover.settle()
            assert found == sorted(entries.items())


def test_writers_lose_nothing_while_partitions_go_forth_and_back(stores: Stores) -> None:
    written: dict[str, bytes] = {}
    over = threading.Event()

    def write(number: int) -> None:
        count = 0
        with stores.client(f"writer-{number}") as kv:
            while not over.is_set():
                key = f"k{number * 100 + count % 40}"
                kv[key] = value = b"%d" % count
                written[key] = value
                count += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for target in (1, 0, 1):
            before = len(written)
            while len(written) < before + 5:
                assert all(thread.is_alive() for thread in threads)
                over.wait(0.001)
            with stores.cluster("mover") as cluster:
                mover = Mover(cluster, OWNER)
                mover.begin_move(stores.first.owned[0][:4], target)
                mover.settle()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    check_whole(stores, written, "after")


def test_a_client_that_knows_the_end_of_a_move_tells_the_target(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        with pytest.raises(Crash):
            begin(stores, lambda step: crash_at(0)(step) if step == "installed map 3 at 0" else None)
        moving = key_in(set(stores.first.owned[0][:4]))
        assert kv[moving] == entries[moving]  # the source tells it of map 3, and it tells the target
        kv[moving] = b"new"
    entries[moving] = b"new"
    settle(stores)
    check_whole(stores, entries, "bob")


# --- giving up, adding, planning -------------------------------------------------------------------------


def test_a_move_is_given_up_until_it_has_arrived_and_leaves_nothing_behind(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        with pytest.raises(Crash):
            begin(stores, lambda step: crash_at(0)(step) if step.startswith("imported") else None)
        assert stores.ask(1, Size())[0].used_bytes > 0  # type: ignore[union-attr]
        with stores.cluster("mover") as cluster:
            mover = Mover(cluster, OWNER)
            with pytest.raises(InvalidInput, match="under way"):
                mover.begin_move(stores.first.owned[0][:1], 1)
            with pytest.raises(InvalidInput, match="under way"):
                mover.add([])
            mover.give_up()
            mover.settle()
            with pytest.raises(InvalidInput, match="no move"):
                mover.give_up()
        kv["k1"] = entries["k1"] = b"written again"
    check_whole(stores, entries, "bob")
    begin(stores)
    check_whole(stores, entries, "carol")


def test_a_store_is_added_owns_nothing_and_gets_its_part(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        added = stores.add_host()
        with stores.cluster("mover") as cluster:
            mover = Mover(cluster, OWNER)
            mover.add([added])
            mover.settle()
            moves = plan(mover.shards)
            assert moves and all(target == 2 for _, target in moves), "only the new one gets anything"
            for partitions, target in moves:
                mover.begin_move(partitions, target)
                mover.settle()
            ids = [store.store_id for store in mover.shards.stores]
            assert [rendezvous(p, ids) for p in range(mover.shards.partitions)] == list(mover.shards.owners)
            assert plan(mover.shards) == []
            back = plan(mover.shards, leaving=[2], at_once=2)
            assert {len(partitions) for partitions, _ in back} <= {1, 2} and {t for _, t in back} <= {0, 1}
            with pytest.raises(InvalidInput):
                plan(mover.shards, leaving=[0, 1, 2])
        assert kv == entries
    check_whole(stores, entries, "bob")


def test_a_store_with_entries_becomes_the_first_of_a_cluster() -> None:
    with stores_of(1, found=False) as stores:
        _grow(stores)


def _grow(stores: Stores) -> None:
    with stores.plain(0) as plain:
        plain.update({f"k{number}": b"old" for number in range(40)})
    settle(stores)
    added = stores.add_host()
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        mover.add([added])
        mover.settle()
        for partitions, target in plan(mover.shards):
            mover.begin_move(partitions, target)
            mover.settle()
    check_whole(stores, {f"k{number}": b"old" for number in range(40)}, "alice")


def test_moves_that_make_no_sense_are_refused_before_anything_is_signed(stores: Stores) -> None:
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        owned = stores.first.owned
        for partitions, target in (([], 1), ([99], 1), ([owned[0][0], owned[1][0]], 1), (owned[1][:1], 1)):
            with pytest.raises(InvalidInput):
                mover.begin_move(partitions, target)
        assert mover.shards == stores.first


def test_a_store_that_has_moved_elsewhere_is_found_by_the_newer_map(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        reached = []
        kv._cluster._reach = lambda store: reached.append(store.url) or stores.reach(store)
        with stores.cluster("mover") as cluster:
            mover = Mover(cluster, OWNER)
            mover.readdress(1, "http://elsewhere.invalid")
            mover.settle()
        kv.refresh()
        assert kv == entries and kv.shards.version == 2 and reached == ["http://elsewhere.invalid"]
        stores.hosts[0].unreachable()
        kv.refresh()


def test_the_newest_map_is_learned_from_the_stores(stores: Stores) -> None:
    begin(stores)
    stores.hosts[1].unreachable()
    with stores.cluster("another-mover") as cluster:
        mover = Mover(cluster, OWNER)
        assert mover.shards.version == 1
        mover.learn()
        assert mover.shards.version == 3


# --- attacks ---------------------------------------------------------------------------------------------


def test_a_write_by_an_old_map_is_refused_by_the_old_owner_and_not_lost(stores: Stores) -> None:
    moving = key_in(set(stores.first.owned[0][:4]))
    with stores.client("alice") as kv, stores.plain(0) as plain:
        entries = fill(kv)
        begin(stores)
        for operation in (lambda: plain.put(moving, b"x"), lambda: plain.get(moving), lambda: plain.delete(moving)):
            with pytest.raises(WrongShard) as refused:
                operation()
            assert refused.value.version == 3 and not isinstance(refused.value, PartitionMoving)
        assert moving not in dict(plain.scan())
        kv[moving] = entries[moving] = b"by a stale client"
    check_whole(stores, entries, "bob")


def test_only_the_mover_that_the_map_names_brings_entries(stores: Stores) -> None:
    with stores.client() as kv:
        entries = fill(kv)
    with pytest.raises(Crash):
        begin(stores, lambda step: crash_at(0)(step) if step.startswith("imported") else None)
    moving = key_in(set(stores.first.owned[0][:4]))
    for version in (1, 2, 3):
        with pytest.raises(ShardMapRefused):
            stores.ask(1, Import(version, [(moving, b"forged")]))
    settle(stores)
    check_whole(stores, entries, "bob")


def test_what_has_arrived_is_compared_with_what_the_source_has(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.client() as kv:
        entries = fill(kv)
    real = KeyValueClient.execute

    def lossy(self, operations):  # type: ignore[no-untyped-def]
        if isinstance(operations[0], Import):
            operations = [operations[0]._replace(entries=operations[0].entries[1:])]
        return real(self, operations)

    with monkeypatch.context() as broken:
        broken.setattr(KeyValueClient, "execute", lossy)
        with pytest.raises(MoveFailed):
            begin(stores)
    with stores.cluster("mover") as cluster:
        mover = Mover(cluster, OWNER)
        assert isinstance(mover.shards.move, Move) and mover.shards.move.arrived is None
        mover.give_up()
        mover.settle()
    check_whole(stores, entries, "bob")


def test_a_second_mover_that_signs_another_map_of_the_version_is_caught(stores: Stores) -> None:
    with stores.cluster("other-mover") as cluster:
        Mover(cluster, OWNER)._keep(stores.first.next())
        begin(stores)
        with pytest.raises(ShardMapRefused, match="is older"):
            Mover(cluster, OWNER).settle()
    with stores.cluster("third-mover") as cluster:
        forked = Mover(cluster, OWNER)
        forked._keep(stores.first.next())
        forked._keep(forked.shards.next())
        with pytest.raises(ShardMapRefused, match="another map of this version"):
            forked.settle()
        with pytest.raises(ShardMapForked):
            forked.learn() or cluster.run(cluster.router.learn(_signed_at(stores, 0)), "t")


def _signed_at(stores: Stores, place: int) -> bytes:
    from wire.kv import Shards

    (status,) = stores.ask(place, Shards())
    return status.signed  # type: ignore[union-attr]


def test_a_store_that_cannot_be_reached_stops_the_move_and_nothing_is_lost(stores: Stores) -> None:
    with stores.client("alice") as kv:
        entries = fill(kv)
        host = stores.hosts[1]
        with pytest.raises(OutcomeUnknown):
            begin(stores, lambda step: host.unreachable() if step.startswith("import ") else None)
        host.tamper = host.honest
        settle(stores)
        assert kv == entries
    check_whole(stores, entries, "bob")
