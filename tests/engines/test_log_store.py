"""The log itself, on an engine in memory: fencing, unknown outcomes, collecting, damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_engine import MemoryEngine

from host_store.arguments import Commit
from host_store.store import Head, OutboxItem
from host_store.stores import collector
from host_store.stores.backup import restore, save
from host_store.stores.engine import EngineDown, Patience
from host_store.stores.entry import decode_entry, encode_claim, encode_commit
from host_store.stores.loading import INDEX, LOG, entry_name
from host_store.stores.log_store import LogStore
from host_store.stores.objects import NO_PARTS, PARTS, Objects
from host_store.stores.state import LogState
from host_store.stores.tiles import Tiles
from wire.codec import pack, unpack
from wire.errors import CorruptedStore, InvalidInput, StoreFenced, StoreUnavailable

ALICE = b"alice".ljust(16, b"\0")
IMPATIENT = Patience(0.05)


def leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def append(store: LogStore, n: int, content: bytes | None = None, **more: object) -> None:
    content = b"record %d" % n if content is None else content
    store.append(n, content, leaf(content), **{"trim": 0, **more})  # type: ignore[arg-type]


def mail(n: int, index: int = 0) -> OutboxItem:
    return OutboxItem(n, index, ALICE, b"mail %d of commit %d" % (index, n))


class Failing(MemoryEngine):
    """Loses the answers to some creations; the objects come to be before that, or after it, or never."""

    before = after = never = 0

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.late: list[tuple[str, bytes]] = []

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        if not name.startswith(LOG):
            return super().create(name, value, seconds)
        if self.before:
            self.before -= 1
            super().create(name, value, seconds)
            raise EngineDown("the answer was lost")
        if self.after:
            self.after -= 1
            self.late.append((name, value))
            raise EngineDown("it is on its way")
        if self.never:
            self.never -= 1
            raise EngineDown("it was lost")
        return super().create(name, value, seconds)

    def arrive(self) -> list[bool]:
        """What was on its way gets there."""
        late, self.late = self.late, []
        return [super(Failing, self).create(name, value, 1) for name, value in late]


def opened(engine: MemoryEngine) -> LogStore:
    return LogStore.open(engine, "here", patience=IMPATIENT)


@pytest.mark.parametrize("fate", ["before", "after", "never"])
def test_the_same_bytes_again_settle_an_unknown_outcome(fate: str) -> None:
    engine = Failing({})
    with opened(engine) as store:
        append(store, 1)
        setattr(engine, fate, 1_000_000)
        with pytest.raises(StoreUnavailable):
            append(store, 2, outbox=[mail(2)])
        setattr(engine, fate, 0)
        append(store, 2, outbox=[mail(2)])
        engine.arrive()
        append(store, 3)
        assert store.head() == Head(3, 1)
        assert list(store.read(1, 4)) == [b"record 1", b"record 2", b"record 3"]
        assert store.outbox(ALICE) == [mail(2)]


def test_one_lost_answer_is_not_even_noticed() -> None:
    engine = Failing({})
    with opened(engine) as store:
        for n in range(1, 4):
            engine.before = 1
            append(store, n)
        assert store.head() == Head(3, 1)


@pytest.mark.parametrize("fate", ["before", "after", "never"])
def test_asking_for_the_head_settles_an_unknown_outcome_for_good(fate: str) -> None:
    engine = Failing({})
    with opened(engine) as store:
        append(store, 1)
        setattr(engine, fate, 1_000_000)
        with pytest.raises(StoreUnavailable):
            append(store, 2, b"of the epoch that ended", outbox=[mail(2)])
        setattr(engine, fate, 0)
        landed = fate == "before"
        assert store.head() == Head(2 if landed else 1, 1)
        assert not any(engine.arrive()), "what comes late finds its place taken"
        n = 3 if landed else 2
        append(store, n, b"of the next epoch")
        assert store.head() == Head(n, 1)
        assert store.outbox(ALICE) == ([mail(2)] if landed else [])


def test_a_crash_settles_it_as_well() -> None:
    engine = Failing({})
    store = opened(engine)
    append(store, 1)
    engine.after = 1_000_000
    with pytest.raises(StoreUnavailable):
        append(store, 2)
    engine.after = 0
    with opened(MemoryEngine(engine.objects)) as again:
        assert again.head() == Head(1, 1)
        assert not any(engine.arrive())
        append(again, 2, b"another")
    with opened(MemoryEngine(engine.objects)) as again:
        assert list(again.read(1, 3)) == [b"record 1", b"another"]


def test_two_hosts_never_fork_the_log_and_the_older_is_told_who_took_over() -> None:
    objects: dict[str, bytes] = {}
    one = LogStore.open(MemoryEngine(objects), "one")
    append(one, 1)
    two = LogStore.open(MemoryEngine(objects), "two")
    assert two.head() == Head(1, 1)
    for _ in range(2):
        with pytest.raises(StoreFenced, match="the host two has taken over"):
            append(one, 2, b"by one")
    append(two, 2, b"by two")
    with pytest.raises(StoreFenced):
        append(one, 2, b"by one")
    three = LogStore.open(MemoryEngine(objects), "three")
    assert list(three.read(1, 3)) == [b"record 1", b"by two"]
    for store in (one, two, three):
        store.close()


def test_a_host_that_comes_back_long_after_is_fenced_though_everything_was_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(collector, "INDEX_ENTRIES", 10**9)
    one = LogStore.open(MemoryEngine(objects), "one")
    append(one, 1)
    with LogStore.open(MemoryEngine(objects), "two") as two:
        for n in range(2, 50):
            append(two, n, trim=n)
        assert two._collector is not None
        two._collector.collect()
        assert len([name for name in objects if name.startswith(LOG)]) < 5
    with pytest.raises(StoreFenced, match="two"):
        append(one, 2, b"by one")
    one.close()


def test_collecting_leaves_what_is_needed_and_nothing_else() -> None:
    objects: dict[str, bytes] = {}
    large = bytes(3 * MemoryEngine.part_bytes)
    with LogStore.open(MemoryEngine(objects), "here") as store:
        for n in range(1, 700):
            append(store, n, large if n % 100 == 0 else None, trim=max(0, n - 3), outbox=[mail(n)] if n == 5 else [])
        assert store._collector is not None
        store._collector.collect()
        before = store.head(), list(store.read(696, 700)), store.outbox(ALICE)
    logged = sorted(name for name in objects if name.startswith(LOG))
    commits = [n for n in logged if decode_entry(objects[n][1:], n).n]
    assert [decode_entry(objects[name][1:], name).n for name in commits] == [5, 696, 697, 698, 699]
    assert len([name for name in objects if name.startswith(INDEX)]) == 1
    assert not [name for name in objects if name.startswith(PARTS)]
    with LogStore.open(MemoryEngine(objects), "here") as store:
        assert (store.head(), list(store.read(696, 700)), store.outbox(ALICE)) == before
        for n in range(1, 700):
            content = large if n % 100 == 0 else b"record %d" % n
            assert store.node(0, n - 1) == leaf(content)


def test_parts_whose_object_never_came_to_be_are_found_by_the_next_host() -> None:
    engine = Failing({})
    store = opened(engine)
    append(store, 1)
    engine.never = 1_000_000
    with pytest.raises(StoreUnavailable):
        append(store, 2, bytes(3 * MemoryEngine.part_bytes))
    assert [name for name in engine.objects if name.startswith(PARTS)]
    with LogStore.open(MemoryEngine(engine.objects), "two") as again:
        append(again, 2, bytes(2 * MemoryEngine.part_bytes))
        assert again._collector is not None
        again._collector.collect()
        again._collector._delete_strays()
        assert list(again.read(2, 3)) == [bytes(2 * MemoryEngine.part_bytes)]
        assert len([name for name in engine.objects if name.startswith(PARTS)]) == 3


def delete(objects: dict[str, bytes]) -> None:
    del objects[entry_name(3)]


def cut(objects: dict[str, bytes]) -> None:
    objects[entry_name(3)] = objects[entry_name(3)][:-1]


def exchange(objects: dict[str, bytes]) -> None:
    objects[entry_name(3)], objects[entry_name(4)] = objects[entry_name(4)], objects[entry_name(3)]


def scribble(objects: dict[str, bytes]) -> None:
    objects[entry_name(3)] = b"\x07nonsense"


@pytest.mark.parametrize("damage", [delete, cut, exchange, scribble])
def test_a_damaged_log_is_not_opened(damage: Callable[[dict[str, bytes]], None]) -> None:
    objects: dict[str, bytes] = {}
    with LogStore.open(MemoryEngine(objects), "here") as store:
        for n in range(1, 5):
            append(store, n)
    damage(objects)
    with pytest.raises(CorruptedStore):
        LogStore.open(MemoryEngine(objects), "here")


def changed(encoded: bytes, field: int, value: object) -> bytes:
    """An entry with another field in its header; what it carries is the same."""
    length = int.from_bytes(encoded[:4], "big")
    fields = unpack(encoded[4 : 4 + length], 1 << 20, max_arrays=3)
    fields[field] = value
    header = pack(fields)
    return len(header).to_bytes(4, "big") + header + encoded[4 + length :]


_ADDRESS = bytes(16)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (1, 7),
        (2, "x" * 257),
        (2, "an escape \x1b[2J"),
        (3, b"a nonce"),
        (4, 0),
        (4, 1 << 63),
        (5, 9),
        (5, -1),
        (6, b"short"),
        (7, -1),
        (8, bytes(4097)),
        (9, [0, _ADDRESS, 5, 1, _ADDRESS, -5]),
        (9, [0, b"short", 0]),
        (9, [1 << 32, _ADDRESS, 0]),
        (9, [0, _ADDRESS, 0, 0, _ADDRESS, 0]),
        (10, [1, "x"]),
    ],
)
def test_an_entry_is_decoded_strictly(field: int, value: object) -> None:
    _entry, encoded = encode_commit("here", Commit.checked(3, b"record", bytes(32), 2, (), ()))
    assert decode_entry(encoded, "it").n == 3
    with pytest.raises(CorruptedStore):
        decode_entry(changed(encoded, field, value), "it")


@pytest.mark.parametrize(
    ("field", "value"), [(1, 2), (3, b""), (4, 1), (5, 1), (6, bytes(32)), (8, b"k"), (10, [1, 0])]
)
def test_a_claim_has_nothing_but_its_host(field: int, value: object) -> None:
    encoded = encode_claim("here", bytes(16))
    with pytest.raises(CorruptedStore):
        decode_entry(changed(encoded, field, value), "it")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (1, 2),
        (2, -1),
        (3, 0),
        (3, 9),
        (4, "k"),
        (5, 0),
        (5, []),
        (5, [bytes(32)]),
        (5, [bytes(96), b""]),
        (6, [1, 1, 0, 1, 2, 2, -1, 1]),
        (7, [1, 0, b"short", 1, 0, 1]),
        (8, [1, 5, "", 0]),
        (9, [-1, "", 0]),
    ],
)
def test_an_index_is_decoded_strictly(field: int, value: object) -> None:
    state = LogState()
    for n in range(1, 4):
        state.apply(encode_commit("here", Commit.checked(n, b"r", bytes(32), 1, (), ()))[0], NO_PARTS)
    fields = unpack(state.encode(), 1 << 20, max_arrays=16)
    assert LogState.decode(pack(fields), "it").head == Head(3, 1)
    fields[field] = value
    with pytest.raises(CorruptedStore):
        LogState.decode(pack(fields), "it")


@pytest.mark.parametrize("leaves", [0, 1, 255, 256, 257, 65_535, 65_536, 65_537])
def test_the_hashes_of_every_index_are_taken_back(leaves: int) -> None:
    tiles = Tiles()
    for n in range(leaves):
        tiles.append(n.to_bytes(32, "big"))
    assert Tiles.decode(leaves, tiles.growing).growing == tiles.growing


@pytest.mark.parametrize(("pieces", "length"), [(1 << 60, 1 << 60), (1 << 60, 100), (-1, 0), (0, 0)])
def test_an_engine_that_names_endless_parts_is_not_read_to_their_end(pieces: int, length: int) -> None:
    class Endless(MemoryEngine):
        reads = 0

        def get(self, name: str, seconds: float) -> bytes | None:
            if not name.startswith(PARTS):
                return super().get(name, seconds)
            self.reads += 1
            assert self.reads < 100, "it goes on and on"
            return bytes(64)

    engine = Endless({"x": b"\x01" + pack(["token", pieces, length])})
    with pytest.raises(CorruptedStore):
        Objects(engine, IMPATIENT).get("x")


def test_a_restore_that_was_interrupted_is_no_store_and_may_be_repeated(tmp_path: Path) -> None:
    class Dies(Exception):
        pass

    class Dying(MemoryEngine):
        calls = 0

        def _check(self) -> None:
            self.calls -= 1
            if self.calls == 0:
                raise Dies

    engine = Dying({})
    with LogStore.open(engine, "here") as store:
        store.create(b"sealed", b"record 1", leaf(b"record 1"))
        for n in range(2, 6):
            append(store, n)
    saved, objects = tmp_path / "saved", engine.objects
    save(MemoryEngine(objects), IMPATIENT, saved)
    with LogStore.open(MemoryEngine(objects), "here") as store:
        append(store, 6)
    done = False
    for number in range(1, 100):
        engine.calls = number
        before = dict(objects)
        try:
            restore(engine, IMPATIENT, saved)
            done = True
        except Dies:
            pass
        if done:
            break
        if objects != before:
            with pytest.raises(CorruptedStore, match="'pmap restore' once more"):
                LogStore.open(MemoryEngine(objects), "here")
            with pytest.raises(CorruptedStore, match="'pmap restore' once more"):
                save(MemoryEngine(objects), IMPATIENT, tmp_path / "half")
        engine.calls = 0
        restore(engine, IMPATIENT, saved)
        with LogStore.open(MemoryEngine(objects), "here") as store:
            assert store.head() == Head(5, 1)
            append(store, 6, b"another")
    assert done and number > 5


def test_a_backup_holds_objects_of_a_store_only(tmp_path: Path) -> None:
    file = tmp_path / "saved"
    file.write_bytes(b"pmap-backup/1" + (4).to_bytes(4, "big") + b"beat" + bytes(8))
    engine = MemoryEngine({"log/1": b"\x00"})
    with pytest.raises(InvalidInput, match="nothing was changed"):
        restore(engine, IMPATIENT, file)
    assert engine.objects == {"log/1": b"\x00"}
