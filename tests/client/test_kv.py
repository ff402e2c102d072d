"""The key-value client against the ready-made enclave: what a mapping does, and what only this one does."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest
from adversarial_host import AdversarialHost

from client import Batch, HandlerFailed, InProcessTransport, KeyValueClient, MailFailed, SwapFailed, Usage
from client.kv_operations import MAIL_OPERATIONS, Paging, mails
from pmap.kv import KeyValueEnclave
from wire.errors import InvalidInput, LimitExceeded, Malformed
from wire.kv import (
    Get,
    Page,
    Put,
    Scan,
    Swap,
)
from wire.limits import MAX_KEY_BYTES


class Small(KeyValueEnclave):
    max_persistent_map_size = "4k"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AdversarialHost]:
    host = AdversarialHost(tmp_path / "store", KeyValueEnclave)
    yield host
    host.close()


def connect(host: AdversarialHost) -> KeyValueClient:
    settings = {"constraint": "SEC:INSECURE", "retry_delays": (0.0, 0.0)}
    return KeyValueClient.connect(InProcessTransport(host), **settings)


@pytest.fixture
def kv(host: AdversarialHost) -> Iterator[KeyValueClient]:
    with connect(host) as kv:
        yield kv


def test_it_is_a_mapping(kv: KeyValueClient) -> None:
    assert isinstance(kv, MutableMapping)
    kv["b"] = b"2"
    kv["a"] = bytearray(b"1")
    kv["c"] = memoryview(b"3")
    assert (kv["a"], kv.get("b"), kv.get("x"), kv.get("x", b"y")) == (b"1", b"2", None, b"y")
    assert "a" in kv and "x" not in kv
    assert len(kv) == 3 and list(kv) == ["a", "b", "c"]
    assert kv == {"a": b"1", "b": b"2", "c": b"3"}
    assert list(kv.items()) == [("a", b"1"), ("b", b"2"), ("c", b"3")]
    assert list(kv.keys()) == ["a", "b", "c"] and list(kv.values()) == [b"1", b"2", b"3"]
    assert b"2" in kv.values() and b"9" not in kv.values() and ("a", b"1") in kv.items()
    del kv["a"]
    with pytest.raises(KeyError):
        del kv["a"]
    with pytest.raises(KeyError):
        kv["a"]
    assert kv.pop("b") == b"2" and kv.pop("b", None) is None
    with pytest.raises(KeyError):
        kv.pop("b")
    assert kv.setdefault("c", b"other") == b"3" and kv.setdefault("d", b"4") == b"4"
    assert kv.popitem() == ("c", b"3") and kv.popitem() == ("d", b"4")
    with pytest.raises(KeyError):
        kv.popitem()


def test_what_cannot_be_a_key_is_never_there_and_cannot_be_written(kv: KeyValueClient) -> None:
    for key in ("\ud800", "x" * (MAX_KEY_BYTES + 1), 5, None):
        assert key not in kv
        assert kv.get(key, b"default") == b"default"  # type: ignore[call-overload]
        assert kv.pop(key, None) is None  # type: ignore[call-overload]
        assert kv.delete(key) is False  # type: ignore[arg-type]
        with pytest.raises((InvalidInput, LimitExceeded)):
            kv.put(key, b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        kv.get([])  # type: ignore[call-overload]
    for value in ("text", 5, None, [1]):
        with pytest.raises(TypeError):
            kv.put("k", value)  # type: ignore[arg-type]
    assert len(kv) == 0


def test_values_are_any_bytes_and_keys_any_text(kv: KeyValueClient) -> None:
    kv.update({"": b"", "ключ": bytes(range(256)), "x" * MAX_KEY_BYTES: b"long", "\U0010ffff": bytes(100_000)})
    assert kv[""] == b"" and kv["ключ"] == bytes(range(256)) and len(kv["\U0010ffff"]) == 100_000


def test_compare_and_swap_writes_only_over_what_is_expected(kv: KeyValueClient) -> None:
    assert kv.compare_and_swap("k", None, b"1") is True
    assert kv.compare_and_swap("k", None, b"2") is False
    assert kv.compare_and_swap("k", b"0", b"2") is False
    assert kv["k"] == b"1"
    assert kv.compare_and_swap("k", b"1", b"2") is True
    assert kv.compare_and_swap("k", b"2", None) is True
    assert "k" not in kv
    assert kv.compare_and_swap("k", None, None) is True


def test_a_batch_happens_as_a_whole_and_reads_what_it_wrote(kv: KeyValueClient) -> None:
    kv["old"] = b"o"
    with kv.batch() as batch:
        batch.put("a", b"1").get("a").delete("old").delete("old").compare_and_swap("b", None, b"2").size()
        assert len(batch) == 6
    assert batch.results[:5] == [None, b"1", True, False, True]
    usage = batch.results[5]
    assert isinstance(usage, Usage) and usage.entries == 2
    with kv.batch() as empty:
        pass
    assert empty.results == []


def test_a_failed_swap_undoes_its_whole_batch_and_says_which_it_was(kv: KeyValueClient) -> None:
    kv["a"] = b"1"
    with pytest.raises(SwapFailed) as failed, kv.batch() as batch:
        batch.put("a", b"changed").delete("a").compare_and_swap("b", b"x", b"y").put("c", b"3")
    assert failed.value.position == 2 and failed.value.receipt.commit > 0
    assert isinstance(failed.value, HandlerFailed)
    assert kv == {"a": b"1"}


def test_a_batch_whose_block_raises_is_not_sent(kv: KeyValueClient) -> None:
    with pytest.raises(ZeroDivisionError), kv.batch() as batch:
        batch.put("a", b"1")
        raise ZeroDivisionError
    assert len(kv) == 0


def test_scans_are_ordered_bounded_and_paged_transparently(kv: KeyValueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {f"{letter}{number:03}": b"v" * number for letter in "abc" for number in range(40)}
    kv.update(entries)
    monkeypatch.setattr("client.kv_operations.MAX_PAGE_ENTRIES", 7)
    everything = sorted(entries.items())
    assert list(kv.scan()) == everything
    assert list(kv.scan(prefix="b")) == [pair for pair in everything if pair[0].startswith("b")]
    assert list(kv.scan("a039", "b002")) == [pair for pair in everything if "a039" <= pair[0] < "b002"]
    assert list(kv.scan("c038")) == everything[-2:]
    assert list(kv.scan(stop="a001")) == everything[:1]
    assert list(kv.scan(limit=10)) == everything[:10] and list(kv.scan(limit=0)) == []
    assert list(kv.scan(prefix="zzz")) == [] == list(kv.scan("b", "a"))
    with pytest.raises(InvalidInput):
        kv.scan("a", prefix="b")
    with pytest.raises(InvalidInput):
        kv.scan(limit=-1)


def test_pages_end_at_their_budget_but_hold_at_least_one_entry(kv: KeyValueClient) -> None:
    kv.update({f"k{number}": bytes(1000) for number in range(10)})
    pages, start = [], ""
    while True:
        (page,) = kv.execute([Scan(start, None, 100, 2500)])
        assert isinstance(page, Page)
        pages.append(len(page.entries))
        if page.next is None:
            break
        start = page.next
    assert pages == [2] * 5
    (page,) = kv.execute([Scan("", None, 100, 1)])
    assert isinstance(page, Page) and len(page.entries) == 1 and page.next == "k1"


def test_long_updates_are_split_into_mails(kv: KeyValueClient, host: AdversarialHost) -> None:
    sent = len(host.sent)
    kv.update(((f"k{number}", b"v") for number in range(2 * MAIL_OPERATIONS + 1)), more=b"m")
    assert len(kv) == 2 * MAIL_OPERATIONS + 2
    assert len(host.sent) == sent + 5, "a hello, three mails, and the question for the length"
    kv.clear()
    assert len(kv) == 0


def test_a_large_value_gets_a_mail_of_its_own() -> None:
    large = Put("large", bytes(3_000_000))
    small = [Put(f"s{number}", b"x") for number in range(3)]
    assert [len(mail) for mail in mails([*small, large, *small])] == [3, 1, 3]


def test_a_full_map_refuses_the_put_and_goes_on(tmp_path: Path) -> None:
    host = AdversarialHost(tmp_path / "small", Small)
    with connect(host) as kv:
        kv["a"] = bytes(3000)
        with pytest.raises(MailFailed, match="MapFull"):
            kv["b"] = bytes(3000)
        assert kv.usage().entries == 1
        kv["b"] = b"small"
        assert kv == {"a": bytes(3000), "b": b"small"}
    host.close()


def test_results_that_do_not_fit_into_a_reply_are_refused_before_they_are_built(kv: KeyValueClient) -> None:
    kv["large"] = bytes(8_000_000)
    with pytest.raises(MailFailed, match="do not fit into one reply"):
        kv.execute([Get("large")] * 8)
    (value,) = kv.execute([Get("large")])
    assert value == bytes(8_000_000)


def test_two_clients_share_one_map_and_their_swaps_do_not_overwrite_each_other(host: AdversarialHost) -> None:
    with connect(host) as one, connect(host) as two:
        one["counter"] = b"0"
        for kv in (one, two) * 5:
            value = kv["counter"]
            assert kv.compare_and_swap("counter", value, str(int(value) + 1).encode())
        assert one["counter"] == b"10"


def test_entries_survive_a_restart(host: AdversarialHost) -> None:
    with connect(host) as kv:
        kv.update({f"k{number}": b"v" for number in range(50)})
        host.restart()
        assert len(kv) == 50


def test_a_reply_that_is_none_of_the_key_value_enclave_is_malformed(tmp_path: Path) -> None:
    host = AdversarialHost(tmp_path / "recorder")
    with connect(host) as kv, pytest.raises(Malformed):
        kv.get("a")
    host.close()


def test_printing_shows_nothing_of_the_entries(kv: KeyValueClient) -> None:
    kv["secret"] = b"value"
    assert "secret" not in repr(kv) and kv.client.client_id[:16] in repr(kv)


def test_paging_asks_for_no_more_than_is_left() -> None:
    paging = Paging(None, None, "p", 3)
    assert paging.operation() == Scan("p", "q", 3, 1 << 20)
    assert paging.take(Page([("p1", b""), ("p2", b"")], "p3")) == [("p1", b""), ("p2", b"")]
    assert paging.operation() == Scan("p3", "q", 1, 1 << 20)
    paging.take(Page([("p3", b"")], "p4"))
    assert paging.operation() is None


def test_a_batch_keeps_copies_of_what_may_change() -> None:
    value = bytearray(b"1")
    batch = Batch().put("a", value).compare_and_swap("b", value, memoryview(value))
    value[0] = 0
    assert batch.operations == [Put("a", b"1"), Swap("b", b"1", b"1")]
