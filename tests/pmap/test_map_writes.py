"""Claims about writing the persistent map: what is accepted, what it takes, and what an abort undoes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pmap.entries import CLIENTS, FILES, MAP, Entries
from pmap.map import PersistentMap
from wire.errors import InvalidInput, LimitExceeded, MapFull
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES

LONE_SURROGATE = "a\ud800"
LARGE = 1 << 20


def new_map(content: Mapping[str, bytes] | None = None, max_size: int = LARGE) -> PersistentMap:
    """A map whose every writing call is a transaction of its own, unless one is open."""
    entries = Entries()
    made = PersistentMap(entries, max_size, autocommit=entries.transaction)
    made.update(content or {})
    return made


def size_of(content: Mapping[str, bytes]) -> int:
    return sum(len(key.encode()) + len(value) + ENTRY_OVERHEAD_BYTES for key, value in content.items())


@contextmanager
def aborted(entries: Entries) -> Iterator[None]:
    entries.begin()
    yield
    entries.abort()


# --- writing ---


@pytest.mark.parametrize("key", [5, None, 1.5, b"a", ("a",)])
def test_writing_a_key_that_is_no_text_is_a_type_error(key: Any) -> None:
    m: Any = new_map({"a": b"1"})
    writes: list[Callable[[], object]] = [
        lambda: m.__setitem__(key, b""),
        lambda: m.setdefault(key, b""),
        lambda: m.update({key: b""}),
    ]
    for write in writes:
        with pytest.raises(TypeError, match="a key is a str, not "):
            write()
    assert m == {"a": b"1"}


def test_writing_a_key_with_a_lone_surrogate_is_invalid_input() -> None:
    m = new_map()
    with pytest.raises(InvalidInput, match="lone surrogates") as caught:
        m[LONE_SURROGATE] = b""
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)
    with pytest.raises(InvalidInput):
        m.setdefault(LONE_SURROGATE, b"")
    assert len(m) == 0


@pytest.mark.parametrize("value", ["text", 5, None, [1, 2], [], object()])
def test_writing_a_value_that_is_not_bytes_like_is_a_type_error(value: Any) -> None:
    m: Any = new_map({"a": b"1"})
    writes: list[Callable[[], object]] = [
        lambda: m.__setitem__("b", value),
        lambda: m.setdefault("b", value),
        lambda: m.update(b=value),
    ]
    for write in writes:
        with pytest.raises(TypeError, match="a value is bytes, bytearray or memoryview, not "):
            write()
    assert m.setdefault("a", value) == b"1", "a default that is not needed is not looked at"
    assert m == {"a": b"1"}


def test_values_are_stored_as_a_copy_in_bytes() -> None:
    class Tagged(bytes):
        def __bytes__(self) -> bytes:
            raise AssertionError("the content counts, not what a subclass makes of it")

    m = new_map()
    changing = bytearray(b"abcdef")
    m.update(
        {
            "array": changing,
            "view": memoryview(changing)[::2],
            "wide": memoryview(bytes(8)).cast("I"),
            "sub": Tagged(b"s"),
        }
    )
    assert m.setdefault("default", changing) == b"abcdef"
    changing[0] = 0
    changing.extend(b"no view holds it")
    assert m == {"array": b"abcdef", "view": b"ace", "wide": bytes(8), "sub": b"s", "default": b"abcdef"}
    assert {type(value) for value in m.values()} == {bytes}
    assert m.size == size_of(dict(m))


def test_the_longest_key_is_written_and_a_longer_one_refused() -> None:
    m = new_map()
    for longest in ("x" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2)):
        m[longest] = b"1"
        assert m[longest] == b"1"
        with pytest.raises(LimitExceeded, match=r"1024 bytes of UTF-8, this one has 102[56]"):
            m[longest + longest[0]] = b"1"
    assert len(m) == 2


def test_the_longest_value_is_written_and_a_longer_one_refused_before_it_is_copied() -> None:
    m = new_map(max_size=1 << 30)
    too_long = bytearray(MAX_VALUE_BYTES + 1)
    for value in (
        too_long,
        memoryview(too_long),
        bytes(too_long),
        memoryview(bytes(MAX_VALUE_BYTES + 8)).cast("Q"),
    ):
        with pytest.raises(LimitExceeded, match=f"may have {MAX_VALUE_BYTES} bytes"):
            m["a"] = value
    assert m.size == 0
    del too_long[-1]
    m["a"] = too_long
    assert m.size == size_of({"a": b""}) + MAX_VALUE_BYTES


def test_setdefault_writes_only_what_is_missing() -> None:
    m = new_map()
    assert m.setdefault("a", b"1") == b"1"
    assert m.setdefault("a", b"2") == b"1"
    assert m.setdefault("a") == b"1"
    with pytest.raises(TypeError):
        m.setdefault("b")
    m["empty"] = b""
    assert m.setdefault("empty", b"x") == b"", "an empty value is a value"
    assert m == {"a": b"1", "empty": b""}


def test_an_empty_value_is_found_popped_and_deleted() -> None:
    m = new_map({"a": b"", "b": b""})
    assert ("a" in m, m["a"], m.get("a", b"x"), ("a", b"") in m.items(), b"" in m.values()) == (
        True,
        b"",
        b"",
        True,
        True,
    )
    assert m.pop("a", b"x") == b""
    del m["b"]
    assert len(m) == 0


def test_popitem_takes_the_last_key_in_order() -> None:
    m = new_map({"b": b"2", "c": b"3", "a": b"1"})
    assert [m.popitem() for _ in range(3)] == [("c", b"3"), ("b", b"2"), ("a", b"1")]
    with pytest.raises(KeyError, match="empty"):
        m.popitem()


def test_update_takes_whatever_dict_takes() -> None:
    class KeysAndItems:
        def keys(self) -> list[str]:
            return ["k"]

        def __getitem__(self, key: str) -> bytes:
            return b"keys"

    m = new_map({"a": b"0"})
    m.update({"a": b"1"})
    m.update([("b", b"2"), ["b", b"3"]])
    m.update(KeysAndItems())
    m.update(iter([("i", b"4")]), w=b"5", self=b"6", other=b"7")
    m.update({"x": b"old"}, x=b"new")
    m.update()
    m.update(m)
    m.update((key + "2", value) for key, value in m.items() if key == "a")
    expected = {
        "a": b"1",
        "b": b"3",
        "k": b"keys",
        "i": b"4",
        "w": b"5",
        "self": b"6",
        "other": b"7",
        "x": b"new",
        "a2": b"1",
    }
    assert m == expected
    wrong: list[tuple[Any, type[Exception]]] = [
        (5, TypeError),
        (None, TypeError),
        ([5], TypeError),
        (["abc"], ValueError),
    ]
    for argument, error in wrong:
        with pytest.raises(error):
            m.update(argument)
    assert m == expected


def test_an_update_that_fails_midway_has_written_nothing() -> None:
    def breaking_off() -> Iterator[tuple[str, bytes]]:
        yield "b", b"2"
        raise ZeroDivisionError

    entries = Entries()
    m = PersistentMap(entries, 50)
    with entries.transaction():
        m["a"] = b"1"
        wrong: list[tuple[Any, type[Exception]]] = [
            (breaking_off(), ZeroDivisionError),
            ({"b": b"2", 5: b""}, TypeError),
            ({"b": b"2", "c": "text"}, TypeError),
            ({"b": b"2", LONE_SURROGATE: b""}, InvalidInput),
            ({"b": b"2", "x" * 1025: b""}, LimitExceeded),
            ({"a": b"new", "b": b"2", "c": bytes(20)}, MapFull),
        ]
        for argument, error in wrong:
            with pytest.raises(error):
                m.update(argument)
            assert (m.copy(), m.size) == ({"a": b"1"}, 14)
        assert list(entries.live) == [MAP + b"a"]


def test_clear_leaves_an_empty_map_that_can_be_used() -> None:
    m = new_map({str(n): b"" for n in range(2500)})
    m.clear()
    assert (len(m), m.size, list(m)) == (0, 0, [])
    m.clear()
    m["a"] = b"1"
    assert m == {"a": b"1"}


# --- size ---


def test_an_entry_that_fills_the_map_exactly_fits_and_one_byte_more_does_not() -> None:
    room = ENTRY_OVERHEAD_BYTES + 2 + 10
    m = new_map(max_size=room)
    with pytest.raises(MapFull, match=f"takes {room + 1} bytes more.* map's {room} bytes only {room} are free"):
        m["é"] = bytes(11)
    assert (len(m), m.size) == (0, 0)
    m["é"] = bytes(10)
    assert m.size == m.max_size == room
    with pytest.raises(MapFull, match=f"takes {ENTRY_OVERHEAD_BYTES} bytes more.* only 0 are free"):
        m[""] = b""
    with pytest.raises(MapFull, match="takes 1 bytes more"):
        m["é"] = bytes(11)
    with pytest.raises(MapFull):
        m.setdefault("a", b"")
    assert m == {"é": bytes(10)}


def test_a_replaced_value_counts_by_the_difference() -> None:
    m = new_map({"a": bytes(100)}, max_size=150)
    m["a"] = bytes(137)
    assert m.size == 150
    m["a"] = b"x" * 137
    m["a"] = b""
    assert m.size == 13
    m["b"] = bytes(124)
    assert m.size == 150


def test_an_update_is_measured_as_a_whole() -> None:
    m = new_map({"a": bytes(37), "b": bytes(37)}, max_size=100)
    m.update({"a": bytes(74), "b": b""})  # too large after its first half
    assert m.size == 100
    with pytest.raises(MapFull):
        m.update({"a": bytes(73), "b": bytes(2)})
    assert m == {"a": bytes(74), "b": b""}


def test_a_map_over_a_lowered_bound_can_be_read_and_shrunk_but_not_grown() -> None:
    entries = Entries()
    PersistentMap(entries, LARGE, autocommit=entries.transaction).update(a=bytes(100), b=bytes(100))
    m = PersistentMap(entries, 150, autocommit=entries.transaction)
    assert (m.size, m.max_size, m["a"]) == (226, 150, bytes(100))
    with pytest.raises(MapFull, match="only 0 are free"):
        m["c"] = b""
    with pytest.raises(MapFull):
        m["a"] = bytes(101)
    m["a"] = b"x" * 100
    m.update({"a": bytes(90), "b": bytes(101)})
    assert m.size == 217
    del m["b"]
    m["c"] = b""
    assert m.size == 116


def test_a_map_of_size_zero_takes_nothing_and_a_negative_size_is_refused() -> None:
    with pytest.raises(MapFull):
        new_map(max_size=0)[""] = b""
    with pytest.raises(InvalidInput, match="at least 0, not -1"):
        new_map(max_size=-1)


# --- transactions ---


def test_without_a_transaction_every_write_is_refused_and_reading_goes_on() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE)
    with entries.transaction():
        m["a"] = b"1"
    writes: list[Callable[[], object]] = [
        lambda: m.__setitem__("b", b""),
        lambda: m.__setitem__("a", b""),
        lambda: m.__delitem__("a"),
        lambda: m.pop("a"),
        lambda: m.pop("a", None),
        m.popitem,
        lambda: m.setdefault("b", b""),
        lambda: m.update(b=b""),
        lambda: m.__ior__({"b": b""}),
        m.clear,
    ]
    for write in writes:
        with pytest.raises(InvalidInput, match="write inside a transaction"):
            write()
    assert (m.copy(), m.size, m.setdefault("a", b""), m.pop("b", None)) == ({"a": b"1"}, 14, b"1", None)
    with entries.transaction():
        m["b"] = b"2"
    assert m == {"a": b"1", "b": b"2"}


def test_with_autocommit_each_call_that_writes_is_one_transaction() -> None:
    entries = Entries()
    commits: list[dict[bytes, bytes | None]] = []

    @contextmanager
    def autocommit() -> Iterator[None]:
        with entries.transaction():
            yield
        commits.append(entries.take_changes())

    m = PersistentMap(entries, LARGE, autocommit=autocommit)
    m["a"] = b"1"
    m.setdefault("b", b"2")
    m.update({"c": b"3", "d": b"4"}, e=b"5")
    m |= {"f": b"6"}
    assert (m.pop("a"), m.popitem()) == (b"1", ("f", b"6"))
    del m["b"]
    m.clear()
    assert commits == [
        {MAP + b"a": b"1"},
        {MAP + b"b": b"2"},
        {MAP + b"c": b"3", MAP + b"d": b"4", MAP + b"e": b"5"},
        {MAP + b"f": b"6"},
        {MAP + b"a": None},
        {MAP + b"f": None},
        {MAP + b"b": None},
        {MAP + b"c": None, MAP + b"d": None, MAP + b"e": None},
    ]


def test_a_call_that_writes_nothing_or_is_refused_makes_no_transaction() -> None:
    entries = Entries()
    begun = []

    @contextmanager
    def autocommit() -> Iterator[None]:
        begun.append(True)
        with entries.transaction():
            yield

    m = PersistentMap(entries, 100, autocommit=autocommit)
    m.clear()
    m.update()
    assert (m.pop("a", None), begun) == (None, [])
    m["a"] = b"1"
    assert (m.setdefault("a", b"2"), begun) == (b"1", [True])
    refused: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: m.__setitem__("b", bytes(100)), MapFull),
        (lambda: m.update(b=bytes(50), c=bytes(50)), MapFull),
        (lambda: m.pop("b"), KeyError),
    ]
    for call, error in refused:
        with pytest.raises(error):
            call()
    assert begun == [True]


def test_an_open_transaction_is_used_also_with_autocommit() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    m["a"] = b"1"
    with aborted(entries):
        m["a"] = b"changed"
        m.update(b=b"2", c=b"3")
        assert m.pop("b") == b"2"
        assert entries.in_transaction
    assert (m.copy(), m.size) == ({"a": b"1"}, 14)


def test_a_transaction_that_another_namespace_began_is_joined() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE)
    for _ in range(2):
        with aborted(entries):
            entries.put(CLIENTS, b"first")
            m["a"] = b"1"
            assert (len(m), m.size) == (1, 14)
        assert (len(m), m.size) == (0, 0)


def test_one_abort_callback_serves_a_whole_transaction() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE)
    registered = []
    with aborted(entries):
        for n in range(100):
            m[str(n)] = b""
            m["same"] = b"%d" % n
            m.popitem()
        m.clear()
        registered.append(len(entries._on_abort))
    assert registered == [1]


def test_an_update_or_clear_over_the_transactions_bound_changes_nothing() -> None:
    entries = Entries()
    m = PersistentMap(entries, 1 << 30)
    big = bytes(MAX_VALUE_BYTES)
    with entries.transaction():
        m["a"] = b"1"
        for refused in ({"x": big, "y": big, "z": big}, {"a": big, "y": big, "z": big}):
            with pytest.raises(LimitExceeded, match=f"may write {MAX_TRANSACTION_BYTES} bytes"):
                m.update(refused)
            assert (m.copy(), m.size) == ({"a": b"1"}, 14)
        m.update(b=big, c=big)
        m["d"] = big[: MAX_VALUE_BYTES - 100]
        size = m.size
        with pytest.raises(LimitExceeded):
            m.clear()  # its first deletions would still fit
        with pytest.raises(LimitExceeded):
            m["e"] = bytes(100)
        assert (list(m), m.size) == (["a", "b", "c", "d"], size)
        del m["a"]
    assert (list(m), m.size) == (["b", "c", "d"], size - 14)


def test_counters_are_right_after_an_abort_whose_first_write_was_refused() -> None:
    entries = Entries()
    m = PersistentMap(entries, 1 << 30, autocommit=entries.transaction)
    m["a"] = b"1"
    with aborted(entries):
        entries.put(FILES, bytes(MAX_TRANSACTION_BYTES - 100))
        with pytest.raises(LimitExceeded):
            m["b"] = bytes(100)
        m["c"] = b""
        with pytest.raises(LimitExceeded):
            m["b"] = bytes(100)
        assert (len(m), m.size) == (2, 27)
    assert (m.copy(), len(m), m.size) == ({"a": b"1"}, 1, 14)


# --- any sequence of calls ---

some_keys = st.sampled_from(["", "a", "aa", "b", "ab", "é", "\uffff", "\U0001f600"])
some_values = st.binary(max_size=12)


class AgainstADict(RuleBasedStateMachine):
    """Any calls in any order give what a dict with a bound gives; aborts give back what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = Entries()
        self.model: dict[str, bytes] = {}
        self.saved: dict[str, bytes] | None = None
        self.others = 0

    @initialize(max_size=st.integers(0, 120))
    def open(self, max_size: int) -> None:
        self.max_size = max_size
        self.m = PersistentMap(self.entries, max_size, autocommit=self.entries.transaction)

    def write(self, wanted: Mapping[str, bytes], call: Callable[[], object]) -> None:
        """``call`` gives ``wanted`` to the map, if that has room for it."""
        result = {**self.model, **wanted}
        if size_of(result) > max(self.max_size, size_of(self.model)):
            with pytest.raises(MapFull):
                call()
        else:
            call()
            self.model = result

    @rule(key=some_keys, value=some_values)
    def set(self, key: str, value: bytes) -> None:
        self.write({key: value}, lambda: self.m.__setitem__(key, value))

    @rule(key=some_keys, value=some_values)
    def setdefault(self, key: str, value: bytes) -> None:
        self.write({key: self.model.get(key, value)}, lambda: self.m.setdefault(key, value))

    @rule(new=st.dictionaries(some_keys, some_values, max_size=4))
    def update(self, new: dict[str, bytes]) -> None:
        self.write(new, lambda: self.m.update(new))

    @rule(key=some_keys)
    def pop(self, key: str) -> None:
        assert self.m.pop(key, None) == self.model.pop(key, None)

    @rule(key=some_keys)
    def delete(self, key: str) -> None:
        if key in self.model:
            del self.model[key], self.m[key]
        else:
            with pytest.raises(KeyError):
                del self.m[key]

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        key = max(self.model)
        assert self.m.popitem() == (key, self.model.pop(key))

    @rule()
    def clear(self) -> None:
        self.m.clear()
        self.model.clear()

    @rule(max_size=st.integers(0, 120))
    @precondition(lambda self: self.saved is None)
    def reopen(self, max_size: int) -> None:
        self.open(max_size)

    @precondition(lambda self: self.saved is None)
    @rule()
    def begin(self) -> None:
        self.entries.begin()
        self.saved = dict(self.model)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def commit(self) -> None:
        self.entries.commit()
        self.saved = None

    @precondition(lambda self: self.saved is not None)
    @rule()
    def abort(self) -> None:
        self.entries.abort()
        assert self.saved is not None
        self.model, self.saved = self.saved, None

    @precondition(lambda self: self.saved is not None)
    @rule(namespace=st.sampled_from([CLIENTS, FILES]), key=st.binary(max_size=2))
    def write_elsewhere(self, namespace: bytes, key: bytes) -> None:
        self.entries.put(namespace + key, b"other")

    @rule(
        start=st.none() | some_keys,
        stop=st.none() | some_keys,
        reverse=st.booleans(),
        limit=st.none() | st.integers(0, 9),
    )
    def scan(self, start: str | None, stop: str | None, reverse: bool, limit: int | None) -> None:
        found = [key for key in self.model if (start is None or start <= key) and (stop is None or key < stop)]
        expected = [(key, self.model[key]) for key in sorted(found, reverse=reverse)][:limit]
        assert list(self.m.range(start, stop, reverse=reverse, limit=limit)) == expected

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        if not hasattr(self, "m"):
            return
        assert list(self.m.items()) == sorted(self.model.items())
        assert list(reversed(self.m)) == sorted(self.model, reverse=True)
        assert self.m == self.model
        assert len(self.m) == len(self.model)
        assert self.m.size == size_of(self.model)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=80, stateful_step_count=40)
