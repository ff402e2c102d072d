"""The key-value enclave's operations and results as bytes: what comes back, what is refused, and by which bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codec import pack, unpack
from wire.errors import InvalidInput, LimitExceeded, MailTooLarge, Malformed
from wire.kv import (
    Arrived,
    Delete,
    Get,
    Import,
    Install,
    Operation,
    Page,
    PartitionScan,
    Purge,
    Put,
    Result,
    Scan,
    Shards,
    ShardStatus,
    Size,
    Swap,
    Usage,
    after_prefix,
    decode_operations,
    encode_operations,
    failed_swap,
    swap_failed_text,
)
from wire.kv_results import decode_results, encode_results
from wire.limits import (
    MAX_BODY_BYTES,
    MAX_EXAMINED_KEYS,
    MAX_KEY_BYTES,
    MAX_OPERATIONS,
    MAX_PAGE_ENTRIES,
    MAX_SHARD_MAP_BYTES,
    MAX_STORED_VALUE_BYTES,
)

DIGEST = bytes(range(32))
ARRIVED = Arrived(7, "last", 3, DIGEST)

OPERATIONS: list[tuple[Operation, list[Any]]] = [
    (Get("key"), ["get", "key"]),
    (Put("key", b"value"), ["put", "key", b"value"]),
    (Delete("key"), ["delete", "key"]),
    (Swap("key", None, b"new"), ["cas", "key", None, b"new"]),
    (Swap("key", b"old", None), ["cas", "key", b"old", None]),
    (Scan("a", None, 5, 6), ["scan", "a", None, 5, 6]),
    (Scan("a", "b", MAX_PAGE_ENTRIES, MAX_BODY_BYTES), ["scan", "a", "b", MAX_PAGE_ENTRIES, MAX_BODY_BYTES]),
    (Scan("", "", 1, 1), ["scan", "", "", 1, 1]),
    (Size(), ["size"]),
    (Shards(), ["shards"]),
    (Install(b"signed"), ["install", b"signed"]),
    (Install(bytes(MAX_SHARD_MAP_BYTES)), ["install", bytes(MAX_SHARD_MAP_BYTES)]),
    (PartitionScan(b"\x05", "a", None, 5, 6), ["pscan", b"\x05", "a", None, 5, 6]),
    (PartitionScan(b"\x05", "a", "b", 5, 6), ["pscan", b"\x05", "a", "b", 5, 6]),
    (Import(7, [("a", b"1"), ("b", b"2")]), ["import", 7, ["a", b"1", "b", b"2"]]),
    (Purge(1), ["purge", 1]),
    (Purge(MAX_EXAMINED_KEYS), ["purge", MAX_EXAMINED_KEYS]),
]


@pytest.mark.parametrize(("operation", "fields"), OPERATIONS, ids=lambda value: type(value).__name__)
def test_each_operation_has_its_documented_form(operation: Operation, fields: list[Any]) -> None:
    encoded = encode_operations([operation])
    assert encoded == pack([fields])
    (decoded,) = decode_operations(encoded)
    assert decoded == operation and type(decoded) is type(operation)


RESULTS: list[tuple[Operation, Result, Any]] = [
    (Get("key"), b"value", b"value"),
    (Get("key"), None, None),
    (Put("key", b""), None, None),
    (Delete("key"), True, True),
    (Swap("key", None, None), True, True),
    (Scan("", None, 1, 1), Page([("a", b"1"), ("b", b"2")], None), [["a", b"1", "b", b"2"], None]),
    (Scan("", None, 1, 1), Page([], "next"), [[], "next"]),
    (Size(), Usage(1, 2, 3), [1, 2, 3]),
    (Shards(), ShardStatus(None, False, None), [None, False, None]),
    (Shards(), ShardStatus(b"signed", True, ARRIVED), [b"signed", True, [7, "last", 3, DIGEST]]),
    (Install(b"signed"), False, False),
    (PartitionScan(b"", "", None, 1, 1), Page([("a", b"1")], "b"), [["a", b"1"], "b"]),
    (Import(7, [("a", b"")]), ARRIVED, [7, "last", 3, DIGEST]),
    (Import(7, [("a", b"")]), Arrived(7, None, 0, bytes(32)), [7, None, 0, bytes(32)]),
    (Purge(1), True, True),
]


@pytest.mark.parametrize(("operation", "result", "field"), RESULTS, ids=lambda value: type(value).__name__)
def test_each_result_has_its_documented_form(operation: Operation, result: Result, field: Any) -> None:
    encoded = encode_results([result])
    assert encoded == pack([field])
    (decoded,) = decode_results(encoded, [operation])
    assert decoded == result and type(decoded) is type(result)


def test_results_stand_in_the_order_of_their_operations() -> None:
    asked, answered, _ = map(list, zip(*RESULTS, strict=True))
    assert decode_results(encode_results(answered), asked) == answered


keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.binary(max_size=8)
operations = st.one_of(
    st.builds(Get, keys),
    st.builds(Put, keys, values),
    st.builds(Delete, keys),
    st.builds(Swap, keys, st.none() | values, st.none() | values),
    st.builds(Scan, keys, st.none() | keys, st.integers(1, 100), st.integers(1, 100)),
    st.just(Size()),
)


@given(st.lists(operations, min_size=1, max_size=5))
def test_operations_survive_their_encoding(batch: list[Operation]) -> None:
    assert decode_operations(encode_operations(batch)) == batch


@given(st.lists(st.tuples(keys, values), max_size=4), st.none() | keys, values)
def test_results_survive_their_encoding(entries: list[tuple[str, bytes]], following: str | None, value: bytes) -> None:
    asked = [Get("a"), Get("b"), Put("a", b""), Delete("a"), Swap("a", None, b""), Scan("", None, 1, 1), Size()]
    results = [value, None, None, False, True, Page(entries, following), Usage(1, 2, 3)]
    assert decode_results(encode_results(results), asked) == results


@pytest.mark.parametrize(
    "fields",
    [
        [],
        "get",
        5,
        None,
        [[]],
        ["get"],
        [["get"]],
        [["get", b"bytes"]],
        [["get", "a", "b"]],
        [["put", "a", "text"]],
        [["put", "a"]],
        [["cas", "a", 1, None]],
        [["cas", "a", None]],
        [["scan", "", None, 0, 1]],
        [["scan", "", None, 1, 0]],
        [["scan", "", None, True, 1]],
        [["scan", "", 5, 1, 1]],
        [["scan", "", None, 1 << 40, 1]],
        [["size", 1]],
        [["drop", "a"]],
        [["shards", 1]],
        [["install"]],
        [["install", "text"]],
        [["pscan", "text", "", None, 1, 1]],
        [["pscan", b"", b"", None, 1, 1]],
        [["pscan", b"", "", 5, 1, 1]],
        [["pscan", b"", "", None, 0, 1]],
        [["pscan", b"", "", None, 1, 0]],
        [["pscan", b"", "", None, 1, 1, 1]],
        [["import", 7, []]],
        [["import", 7, ["a"]]],
        [["import", 7, ["a", "b"]]],
        [["import", 7, [b"a", b"b"]]],
        [["import", True, ["a", b"b"]]],
        [["import", 7, "text"]],
        [["import", 7, ["a", b""] * (MAX_OPERATIONS + 1)]],
        [["purge", 0]],
        [["purge", True]],
        [["purge", MAX_EXAMINED_KEYS + 1]],
        [["purge"]],
        [[["get", "a"]]],
        [["get", "a"], 5],
    ],
)
def test_a_body_that_is_no_batch_is_malformed(fields: object) -> None:
    with pytest.raises(Malformed):
        decode_operations(pack(fields))


def test_the_enclave_refuses_what_is_over_the_bounds() -> None:
    for operation in ([["get", "x" * (MAX_KEY_BYTES + 1)]], [["put", "a", bytes(MAX_STORED_VALUE_BYTES + 1)]]):
        with pytest.raises(LimitExceeded):
            decode_operations(pack(operation))
    for operation in ([["import", 7, ["x" * (MAX_KEY_BYTES + 1), b""]]], [["install", bytes(MAX_SHARD_MAP_BYTES + 1)]]):
        with pytest.raises(LimitExceeded):
            decode_operations(pack(operation))
    with pytest.raises(Malformed):
        decode_operations(pack([["size"]] * (MAX_OPERATIONS + 1)))
    with pytest.raises(Malformed):
        decode_operations(b"\x91" * 100)


def test_as_many_operations_and_entries_as_the_bounds_allow_are_taken() -> None:
    # Each import is two arrays, and so is each status that answers one of the others.
    for most in ([Import(7, [("a", b"")])] * MAX_OPERATIONS, [Import(7, [("a", b"")] * MAX_OPERATIONS)]):
        assert decode_operations(encode_operations(most)) == most
    statuses = [ShardStatus(None, True, ARRIVED)] * MAX_OPERATIONS
    assert decode_results(encode_results(statuses), [Shards()] * MAX_OPERATIONS) == statuses


def test_a_key_and_a_value_of_the_largest_size_are_taken() -> None:
    largest = [Put("x" * MAX_KEY_BYTES, bytes(MAX_STORED_VALUE_BYTES))]
    assert decode_operations(encode_operations(largest)) == largest


def test_a_body_of_the_largest_size_is_taken_and_none_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.kv.MAX_BODY_BYTES", 1000)  # the real one takes a while to fill
    monkeypatch.setattr("wire.kv_results.MAX_BODY_BYTES", 1000)
    rest = 1000 - len(encode_operations([Put("key", bytes(500))])) + 500
    largest = encode_operations([Put("key", bytes(rest))])
    assert len(largest) == 1000 and decode_operations(largest) == [Put("key", bytes(rest))]
    with pytest.raises(MailTooLarge):
        encode_operations([Put("key", bytes(rest + 1))])
    with pytest.raises(Malformed):
        decode_operations(pack([["put", "key", bytes(rest + 1)]]))
    rest = 1000 - len(encode_results([bytes(500)])) + 500
    assert decode_results(encode_results([bytes(rest)]), [Get("key")]) == [bytes(rest)]
    with pytest.raises(Malformed):
        decode_results(encode_results([bytes(rest + 1)]), [Get("key")])


def test_the_client_refuses_what_is_over_the_bounds_before_sending_it() -> None:
    with pytest.raises(InvalidInput):
        encode_operations([])
    with pytest.raises(LimitExceeded):
        encode_operations([Size()] * (MAX_OPERATIONS + 1))
    with pytest.raises(MailTooLarge):
        encode_operations([Put("a", bytes(MAX_BODY_BYTES // 2))] * 2)
    with pytest.raises(InvalidInput):
        encode_operations([("get", "a")])  # type: ignore[list-item]
    with pytest.raises(LimitExceeded):
        encode_operations([Install(bytes(MAX_SHARD_MAP_BYTES + 1))])
    with pytest.raises(LimitExceeded):
        encode_operations([Install("text")])  # type: ignore[arg-type]
    for wrong in (
        Import(True, [("a", b"")]),
        Import(7, []),
        Import(7, [("a", b"")] * (MAX_OPERATIONS + 1)),
        Import(7, [(b"a", b"")]),  # type: ignore[list-item]
        Import(7, [("a", "")]),  # type: ignore[list-item]
        Purge(0),
        Purge(True),
        Purge(MAX_EXAMINED_KEYS + 1),
        Scan("", None, MAX_PAGE_ENTRIES + 1, 1),
        Scan("", None, 1, MAX_BODY_BYTES + 1),
    ):
        with pytest.raises(InvalidInput):
            encode_operations([wrong])


def test_as_many_operations_as_one_mail_may_have_are_encoded() -> None:
    assert (
        len(unpack(encode_operations([Size()] * MAX_OPERATIONS), MAX_BODY_BYTES, max_arrays=MAX_OPERATIONS + 1))
        == MAX_OPERATIONS
    )


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([Get("a")], []),
        ([Get("a")], [None, None]),
        ([Get("a")], ["text"]),
        ([Get("a")], [1]),
        ([Put("a", b"")], [b""]),
        ([Delete("a")], [None]),
        ([Delete("a")], [1]),
        ([Size()], [[1, 2]]),
        ([Size()], [[1, 2, True]]),
        ([Scan("", None, 1, 1)], [[["a"], None]]),
        ([Scan("", None, 1, 1)], [[[b"a", b"b"], None]]),
        ([Scan("", None, 1, 1)], [[["a", "b"], None]]),
        ([Scan("", None, 1, 1)], [[["a", b"b"], 5]]),
        ([Scan("", None, 1, 1)], [None]),
        ([Shards()], [None]),
        ([Shards()], [["text", True, None]]),
        ([Shards()], [[None, 1, None]]),
        ([Shards()], [[None, True, b""]]),
        ([Shards()], [[None, True, [7, b"", 0, b""]]]),
        ([Shards()], [[None, True]]),
        ([Install(b"")], [None]),
        ([Purge(1)], [1]),
        ([Import(7, [])], [None]),
        ([Import(7, [])], [["7", None, 0, b""]]),
        ([Import(7, [])], [[7, b"last", 0, b""]]),
        ([Import(7, [])], [[7, None, True, b""]]),
        ([Import(7, [])], [[7, None, 0, ""]]),
        ([Import(7, [])], [[7, None, 0]]),
    ],
)
def test_results_that_do_not_answer_the_operations_are_malformed(
    asked: list[Operation], answered: list[object]
) -> None:
    with pytest.raises(Malformed):
        decode_results(pack(answered), asked)
    with pytest.raises(Malformed):
        decode_results(None, asked)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), keys)
def test_the_end_of_a_prefix_comes_after_all_that_have_it_and_before_all_that_follow(prefix: str, key: str) -> None:
    end = after_prefix(prefix)
    inside = prefix <= key and (end is None or key < end)
    assert inside is key.startswith(prefix)


def test_the_end_of_a_prefix_is_a_text_that_can_be_a_key() -> None:
    assert after_prefix("") is None and after_prefix("\U0010ffff") is None
    assert after_prefix("a") == "b" and after_prefix("a\U0010ffff") == "b" and after_prefix("a\ud7ff") == "a\ue000"
    assert after_prefix("a\U0010fffe") == "a\U0010ffff"


def test_only_the_exact_text_names_a_failed_swap() -> None:
    assert failed_swap(swap_failed_text(0)) == 0 and failed_swap(swap_failed_text(9999)) == 9999
    for text in ("", "compare-and-swap failed at operation ", "compare-and-swap failed at operation 01", "x 5"):
        assert failed_swap(text) is None
    assert failed_swap(swap_failed_text(5) + "\n") is None
