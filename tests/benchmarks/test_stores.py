"""Stores that are written the short way are what an enclave would have left, and bytes are counted right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mail_core import Core
from benchmarks.restart import first_mail_seconds
from benchmarks.space import _mails, long_run, sample
from benchmarks.stores import Written, entries_in, live_mib, open_store, write_store
from benchmarks.workload import ENTRY_BYTES, names, values
from wire.limits import ENTRY_OVERHEAD_BYTES, LMDB_PAGE_BYTES
from wire.record import SMALLEST_CLASS_BYTES

COUNT = 3_000


@pytest.mark.parametrize("small_commits", [False, True])
def test_a_written_store_opens_with_all_its_entries(tmp_path: Path, small_commits: bool) -> None:
    write_store(tmp_path / "store", COUNT, small_commits=small_commits)
    with open_store(tmp_path / "store") as opened:
        assert sorted(names(COUNT)) == list(opened)
        assert {len(value) for value in opened.values()} == {100}
        # The record's totals, which the map takes over, are those of counting.
        assert (len(opened), opened.size) == (COUNT, COUNT * (ENTRY_BYTES + ENTRY_OVERHEAD_BYTES))
        head = opened._durable._store.head()
        lengths = {len(record) for record in opened._durable._store.read(head.first, head.n + 1)}
        assert (lengths == {SMALLEST_CLASS_BYTES}) is small_commits
        opened["after"] = b"all"  # and it goes on from here


def test_an_enclave_process_starts_on_a_written_store_and_serves_a_mail(tmp_path: Path) -> None:
    write_store(tmp_path / "store", COUNT)
    assert first_mail_seconds(tmp_path / "store", COUNT) > 0


def test_live_bytes_are_keys_and_values() -> None:
    assert live_mib(1_000_000) == pytest.approx(110.6, abs=0.05)
    assert entries_in(live_mib(12_345)) == pytest.approx(12_345, abs=1)


def test_a_stores_sample_adds_up(tmp_path: Path) -> None:
    written = Written(tmp_path / "store")
    keys, value = written.load(COUNT), values()
    for key in keys[:500]:
        with written.core._runtime.entries.transaction():
            written.core.map[key] = value()
        written.commit()
    found = sample(written.store, COUNT)
    head, stats = written.store.head(), written.store.stats()
    live = COUNT * 116
    assert found["used"] == stats.used_bytes / live
    pages = sum(-(-(len(record) + 16) // LMDB_PAGE_BYTES) for record in written.store.read(head.first, head.n + 1))
    assert pages * LMDB_PAGE_BYTES / live < found["window"] < 1.05 * pages * LMDB_PAGE_BYTES / live
    assert found["history_bytes_per_commit"] == pytest.approx(found["history"] * live / head.n)
    # What is left over are a few pages: the roots, the free list, the other tables.
    assert 0 < (found["used"] - found["window"] - found["history"]) * live < 16 * LMDB_PAGE_BYTES
    # Of commits before a base, the leaf hashes are left out of it all.
    later = sample(written.store, COUNT, base=head.n)
    assert later["history"] == pytest.approx(0, abs=1e-9)
    assert later["used"] == pytest.approx(found["used"] - found["history"])
    written.close()


def test_a_long_run_writes_each_entry_as_often_as_it_says() -> None:
    rows = list(long_run(400, 4, cycles=2))
    assert list(dict.fromkeys(row["phase"] for row in rows)) == ["overwrite", "replace", "shrink", "overwrite half"]
    writes = [row["writes"] for row in rows]
    assert writes == sorted(writes)
    assert max(row["writes"] for row in rows if row["phase"] == "replace") == pytest.approx(4)
    assert writes[-1] == pytest.approx(5)


def test_bytes_of_a_mail_are_the_record_the_leaf_and_the_reply(tmp_path: Path) -> None:
    core = Core(tmp_path / "store")
    counts = _mails(core, 1)
    assert set(counts["record"]) == {SMALLEST_CLASS_BYTES}
    # leaf hash, and the 12 bytes by which the reply before is dropped
    commits = zip(counts["handed"], counts["record"], counts["outbox"], strict=True)
    assert {handed - record - outbox for handed, record, outbox in commits} <= {32, 32 + 12}
    assert min(counts["written by the store"]) > SMALLEST_CLASS_BYTES
    head = core.written.store.head()
    (record,) = core.written.store.read(head.n, head.n + 1)
    assert len(record) == counts["record"][-1]
    core.written.close()
