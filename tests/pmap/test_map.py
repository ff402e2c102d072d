"""Claims about reading the persistent map: dict's contract, views and iteration included, in key order."""

from __future__ import annotations

import copy
import pickle
import unittest
from collections import UserDict, defaultdict
from collections.abc import Callable, Hashable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pmap.entries import CLIENTS, FILES, Entries
from pmap.map import PersistentMap
from wire.errors import InvalidInput
from wire.limits import ENTRY_OVERHEAD_BYTES

LONE_SURROGATE = "a\ud800"
KEYS_OUT_OF_ORDER = ["b", "", "é", "aa", "a", "\U0001f600", "\uffff", "\x00", "z", "a\x00"]
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


# --- the mapping protocol ---


def test_it_is_a_mutable_mapping_and_not_hashable() -> None:
    m = new_map({"a": b"1"})
    assert isinstance(m, MutableMapping)
    assert not issubclass(PersistentMap, Hashable)
    with pytest.raises(TypeError, match="unhashable"):
        hash(m)


def test_the_standard_librarys_own_mapping_checks_hold() -> None:
    protocol = pytest.importorskip("test.mapping_tests").BasicTestMappingProtocol
    reference = {"1": b"2", "key1": b"value1", "key2": b"\x00\xff"}
    adapted = type(
        "Adapted",
        (protocol,),
        {"_reference": lambda self: dict(reference), "_empty_mapping": lambda self: new_map()},
    )
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(adapted).run(result)
    assert result.testsRun > 10
    assert [trace for _, trace in result.errors + result.failures] == []


def test_keys_come_in_the_order_of_str() -> None:
    m = new_map({key: key.encode() for key in KEYS_OUT_OF_ORDER})
    ordered = sorted(KEYS_OUT_OF_ORDER)
    assert list(m) == list(m.keys()) == ordered
    assert list(m.values()) == [key.encode() for key in ordered]
    assert list(m.items()) == [(key, key.encode()) for key in ordered]
    assert list(reversed(m)) == list(reversed(m.keys())) == ordered[::-1]
    assert list(reversed(m.values())) == [key.encode() for key in ordered[::-1]]
    assert list(reversed(m.items())) == [(key, key.encode()) for key in ordered[::-1]]


def test_the_empty_string_is_a_key() -> None:
    m = new_map({"": b"here"})
    assert m[""] == b"here"
    assert "" in m
    assert m.pop("") == b"here"
    assert len(m) == 0


def test_entries_of_other_namespaces_are_no_part_of_the_map() -> None:
    entries = Entries()
    with entries.transaction():
        for key in (b"\x0f\xff", b"\x11", b"\x11a", CLIENTS + b"a", FILES + b"a", b"\xff"):
            entries.put(key, b"other")
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    assert (len(m), m.size, list(m), list(reversed(m)), list(m.prefix(""))) == (0, 0, [], [], [])
    with pytest.raises(KeyError):
        m.popitem()
    m["a"] = b"mine"
    m.clear()
    assert list(entries.live.values()) == [b"other"] * 6


def test_a_map_in_the_last_namespace_has_an_end_too() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, namespace=b"\xff", autocommit=entries.transaction)
    m.update(a=b"1", b=b"2")
    assert list(m) == ["a", "b"]
    assert list(reversed(m)) == ["b", "a"]
    assert m.popitem() == ("b", b"2")
    assert m.size == size_of({"a": b"1"})


def test_a_new_map_counts_the_entries_that_are_there() -> None:
    content = {str(n): b"x" * n for n in range(2000)}
    entries = Entries()
    with entries.transaction():
        entries.put(CLIENTS + b"before", b"1")
        entries.put(FILES + b"behind", b"1")
        PersistentMap(entries, 1 << 30).update(content)
    m = PersistentMap(entries, 1 << 30)
    assert (len(m), m.size) == (2000, size_of(content))
    assert m == content


def test_the_representation_shows_counts_and_no_content() -> None:
    m = new_map({"secret key": b"secret value"}, max_size=1000)
    assert repr(m) == f"<PersistentMap: 1 entries, {m.size} of 1000 bytes>"
    for shown in (repr(m), str(m), f"{m}", repr(m.keys()), repr(m.values()), repr(m.items())):
        assert "secret" not in shown


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_refuses_to_be_copied_or_pickled(duplicate: Callable[[Any], Any]) -> None:
    m = new_map({"a": b"1"})
    for target in (m, [m], m.items()):
        if duplicate is copy.copy and target is not m:
            continue  # a shallow copy of what holds the map shares it
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            duplicate(target)


def test_copy_is_a_plain_dict_of_its_own() -> None:
    m = new_map({"b": b"2", "a": b"1"})
    copied = m.copy()
    assert type(copied) is dict
    assert list(copied.items()) == [("a", b"1"), ("b", b"2")]
    copied["c"] = b"3"
    assert "c" not in m


# --- reading ---


@pytest.mark.parametrize("key", ["absent", LONE_SURROGATE, "x" * 5000, 5, None, 1.5, b"a", ("a",), frozenset("a")])
def test_what_cannot_be_a_key_is_not_there(key: Any) -> None:
    m = new_map({"a": b"1"})
    for lookup in (m.__getitem__, m.pop, m.__delitem__):
        with pytest.raises(KeyError) as caught:
            lookup(key)
        assert caught.value.args == (key,)
    assert key not in m
    assert key not in m.keys()  # noqa: SIM118
    assert (key, b"1") not in m.items()
    assert m.get(key) is None
    assert m.get(key, 7) == m.get(key, default=7) == 7
    assert m.pop(key, 7) == m.pop(key, default=7) == 7
    assert m == {"a": b"1"}


@pytest.mark.parametrize("key", [[], {}, set(), bytearray(b"a")])
def test_an_unhashable_key_is_a_type_error_as_in_dict(key: Any) -> None:
    m = new_map({"a": b"1"})
    uses: list[Callable[[], Any]] = [
        lambda: m[key],
        lambda: key in m,
        lambda: key in m.keys(),  # noqa: SIM118
        lambda: (key, b"1") in m.items(),
        lambda: m.get(key),
        lambda: m.pop(key),
        lambda: m.pop(key, None),
        lambda: m.setdefault(key, b""),
        lambda: m.__setitem__(key, b""),
        lambda: m.__delitem__(key),
        lambda: m.update([(key, b"")]),
    ]
    for use in uses:
        with pytest.raises(TypeError):
            use()
    assert m == {"a": b"1"}


def test_a_subclass_of_str_is_its_text() -> None:
    class Name(str):
        def encode(self, *args: Any) -> bytes:
            raise AssertionError("the text counts, not what a subclass makes of it")

    m = new_map()
    m[Name("a")] = b"1"
    assert m["a"] == m[Name("a")] == b"1"
    assert type(next(iter(m))) is str


@pytest.mark.parametrize("absent", ["missing", "z"])
def test_a_missing_key_error_does_not_show_how_entries_are_stored(absent: str) -> None:
    with pytest.raises(KeyError) as caught:
        new_map({"a": b"1"})[absent]
    assert caught.value.args == (absent,)
    assert caught.value.__suppress_context__


def test_equality_is_with_any_mapping_of_the_same_pairs() -> None:
    content = {"b": b"2", "a": b"1"}
    m = new_map(content)
    equals: list[Any] = [m, content, UserDict(content), new_map(content), {"a": bytearray(b"1"), "b": b"2"}]
    for other in equals:
        assert m == other
        assert other == m
        assert (m != other) is False
    unequals: list[Any] = [{}, {"a": b"1"}, {**content, "c": b""}, {"a": b"1", "b": b"x"}, {"a": b"1", "c": b"2"}]
    unequals += [new_map(), UserDict(), list(content.items()), None, 5, "ab", {1: b"1", 2: b"2"}]
    for other in unequals:
        assert m != other
        assert other != m
        assert (m == other) is False
    assert new_map() == {}


def test_comparing_does_not_add_to_a_defaultdict() -> None:
    other = defaultdict(bytes, {"x": b"1"})
    assert new_map({"a": b""}) != other
    assert list(other) == ["x"]


def test_union_gives_a_plain_dict_and_leaves_both_sides() -> None:
    m = new_map({"a": b"1", "b": b"2"})
    for other in ({"b": b"x", "c": b"3"}, UserDict({"b": b"x", "c": b"3"}), new_map({"b": b"x", "c": b"3"})):
        ours, theirs = m | other, other | m
        assert type(ours) is dict
        assert ours == {"a": b"1", "b": b"x", "c": b"3"}
        assert theirs == {"a": b"1", "b": b"2", "c": b"3"}
    assert m == {"a": b"1", "b": b"2"}
    unsupported: list[Any] = [[("c", b"3")], None, 5]
    for other in unsupported:
        with pytest.raises(TypeError, match="unsupported operand"):
            m | other
        with pytest.raises(TypeError, match="unsupported operand"):
            other | m


def test_union_in_place_writes_mappings_and_pairs() -> None:
    m = new_map({"a": b"1"})
    same = m
    m |= {"b": b"2"}
    m |= [("c", b"3")]
    assert m is same
    assert m == {"a": b"1", "b": b"2", "c": b"3"}
    with pytest.raises(TypeError):
        m |= 5


# --- views ---


def contains(view: Any, probe: object) -> bool | str:
    try:
        return probe in view
    except TypeError:  # unhashable
        return "TypeError"


def test_views_are_live_and_of_the_abstract_types() -> None:
    m = new_map()
    keys, values, items = m.keys(), m.values(), m.items()
    assert (isinstance(keys, KeysView), isinstance(values, ValuesView), isinstance(items, ItemsView)) == (True,) * 3
    m.update(b=b"2", a=b"1")
    assert (len(keys), len(values), len(items)) == (2, 2, 2)
    assert (list(keys), list(values), list(items)) == (["a", "b"], [b"1", b"2"], [("a", b"1"), ("b", b"2")])
    for view in (keys, values, items):
        with pytest.raises((TypeError, AttributeError)):
            view.mine = 1  # type: ignore[union-attr]


def test_containment_in_views_is_that_of_dicts_views() -> None:
    content = {"a": b"1", "b": b"2"}
    m = new_map(content)
    probes: list[Any] = ["a", "c", b"1", b"3", bytearray(b"1"), 5, None, ("a", b"1"), ("a", b"2"), ("c", b"1"), ("a",)]
    probes += [("a", b"1", 0), ["a", b"1"], ("a", bytearray(b"1")), "ab", (None, b"1"), (5, None), ("c", None)]
    for probe in probes:
        for ours, theirs in ((m.keys(), content.keys()), (m.values(), content.values()), (m.items(), content.items())):
            assert contains(ours, probe) == contains(theirs, probe), (ours, probe)


SET_OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a - b,
    lambda a, b: a ^ b,
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a < b,
    lambda a, b: a <= b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
]


@pytest.mark.parametrize("operation", SET_OPERATIONS)
@pytest.mark.parametrize(
    "right", [{}, {"a": b"1"}, {"a": b"1", "b": b"2"}, {"b": b"x", "c": b"3"}, {"a": b"", "z": b""}]
)
def test_set_operations_on_views_are_those_of_dicts_views(
    operation: Callable[[Any, Any], Any], right: dict[str, bytes]
) -> None:
    left = {"a": b"1", "b": b"2"}
    m, n = new_map(left), new_map(right)
    for view in (dict.keys, dict.items):
        expected, mirrored = operation(view(left), view(right)), operation(view(right), view(left))
        name = view.__name__
        ours, theirs = getattr(m, name)(), getattr(n, name)()
        for other in (theirs, view(right), set(view(right)), frozenset(view(right))):
            assert operation(ours, other) == expected
            assert operation(other, ours) == mirrored
        assert ours.isdisjoint(view(right)) == view(left).isdisjoint(view(right))


def test_set_operations_take_any_iterable_and_give_sets() -> None:
    keys: Any = new_map({"a": b"1", "b": b"2"}).keys()
    assert keys & ["b", "c"] == {"b"}
    assert keys - iter("a") == {"b"}
    assert type(keys | []) is set
    with pytest.raises(TypeError):
        keys & [[]]
    with pytest.raises(TypeError):
        keys | 5
    for view in (keys, new_map().items()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(view)


# --- iterating ---

ITERATORS: list[Callable[[PersistentMap], Iterator[Any]]] = [
    iter,
    reversed,
    lambda m: iter(m.keys()),
    lambda m: iter(m.values()),
    lambda m: iter(m.items()),
    lambda m: reversed(m.keys()),
    lambda m: reversed(m.values()),
    lambda m: reversed(m.items()),
    lambda m: m.range("k"),
    lambda m: m.range(reverse=True),
    lambda m: m.range(limit=1000),
    lambda m: m.prefix("k"),
]
MANY = {f"k{n:04d}": b"%d" % n for n in range(2500)}  # more than the longest run of a scan


@pytest.mark.parametrize("iterate", ITERATORS)
def test_adding_or_removing_keys_ends_an_iteration_with_an_error(iterate: Callable[[PersistentMap], Any]) -> None:
    changes: list[Callable[[PersistentMap], object]] = [
        lambda m: m.__setitem__("new", b""),
        lambda m: m.__delitem__("k0040"),
        lambda m: m.popitem(),
        lambda m: m.clear(),
        lambda m: m.update({"new": b"", "k0000": b""}),
        lambda m: m.setdefault("new", b""),
        lambda m: (m.pop("k0001"), m.setdefault("k0001", b"")),  # as long as before
    ]
    for change in changes:
        for taken in (0, 1, 16, 20):
            m = new_map({key: MANY[key] for key in sorted(MANY)[:60]})
            iterator = iterate(m)
            for _ in range(taken):
                next(iterator)
            change(m)
            with pytest.raises(RuntimeError, match="during the iteration"):
                next(iterator)
            assert list(iterator) == []


def test_adding_at_the_last_key_is_noticed_as_in_dict() -> None:
    m = new_map({"a": b"1"})
    with pytest.raises(RuntimeError):
        for key in m:
            m[key + "a"] = b""
    assert len(m) == 2


@pytest.mark.parametrize("iterate", ITERATORS)
def test_replacing_values_does_not_disturb_an_iteration(iterate: Callable[[PersistentMap], Any]) -> None:
    m = new_map(MANY)
    expected = len(list(iterate(m)))
    count = 0
    for _ in iterate(m):
        m["k2499"] = m["k0000"] = b"%d" % count
        m.update({"k1000": b"", "k0001": b"longer"})
        assert m.setdefault("k0002", b"ignored") == b"2"
        m.pop("absent", None)
        count += 1
    assert count == expected > 999


def test_values_are_those_of_the_moment_they_are_reached() -> None:
    m = new_map({"a": b"1", "b": b"2"})
    iterator = iter(m.items())
    assert next(iterator) == ("a", b"1")
    m["b"] = b"new"
    assert list(iterator) == [("b", b"new")]


@pytest.mark.parametrize("reverse", [False, True])
def test_writing_other_namespaces_does_not_disturb_an_iteration(reverse: bool) -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    m.update(MANY)
    seen = []
    with entries.transaction():
        for count, (key, value) in enumerate(m.range(reverse=reverse)):
            seen.append((key, value))
            for n in range(3):  # enough for the lists that hold the order to be split
                entries.put(CLIENTS + b"%d.%d" % (count, n), b"before the map")
                entries.put(FILES + b"%d.%d" % (count, n), b"behind the map")
            if count % 2:
                entries.delete(CLIENTS + b"%d.0" % count)
    assert seen == sorted(MANY.items(), reverse=reverse)


def test_keys_that_differ_by_one_nul_are_all_reached() -> None:
    keys = ["a" + "\x00" * n for n in range(200)]
    m = new_map(dict.fromkeys(keys, b""))
    assert list(m) == keys
    assert list(reversed(m)) == keys[::-1]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 15, 16, 17, 100, 2000])
def test_every_kind_of_iteration_goes_on_in_place_after_a_write_and_an_abort(taken: int, reverse: bool) -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    m.update(MANY)
    order = sorted(MANY, reverse=reverse)
    turn: Callable[[Any], Any] = reversed if reverse else iter
    iterators = [turn(m), turn(m.values()), turn(m.items()), m.range(reverse=reverse)]
    shown: list[list[Any]] = [[next(iterator) for _ in range(taken)] for iterator in iterators]
    last = order[-1]
    m[last] = b"new"
    for iterator, seen in zip(iterators, shown, strict=True):
        seen += [next(iterator) for _ in range(3)]
    with aborted(entries):
        m[last] = b"never"
        for iterator, seen in zip(iterators, shown, strict=True):
            seen.append(next(iterator))
    for iterator, seen in zip(iterators, shown, strict=True):
        seen += list(iterator)
    pairs = [(key, b"new" if key == last else MANY[key]) for key in order]
    assert shown == [order, [value for _, value in pairs], pairs, pairs]


def test_a_scan_that_was_given_up_leaves_nothing_behind() -> None:
    m = new_map(MANY)
    for view in (m, m.items(), m.values()):
        iterator = iter(view)
        assert next(iterator)
        assert m._counted._showing
        del iterator
        assert not m._counted._showing
    for _ in m.range(limit=3):
        pass
    assert not m._counted._showing


def test_keys_that_hold_the_namespaces_own_character() -> None:
    keys = ["", "\x10", "\x10\x10", "a\x10b", "\x10é", "é", "\U0010ffff\x10"]
    for content in (keys, keys[:1], keys[3:4], [key.replace("\x10", "") + "x" for key in keys]):
        m = new_map({key: key.encode() for key in content})
        assert list(m) == sorted(set(content))
        assert list(m.items()) == [(key, key.encode()) for key in sorted(set(content))]


def test_an_abort_ends_the_iterations_whose_keys_it_changed() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    m.update(a=b"1", b=b"2")
    before = iter(m)
    entries.begin()
    m["c"] = b"3"
    inside = iter(m)
    assert next(inside) == "a"
    entries.abort()
    with aborted(entries):
        m["d"] = b"4"  # one key added, as when `inside` began
        for iterator in (before, inside):
            with pytest.raises(RuntimeError):
                next(iterator)


def test_an_abort_of_replaced_values_alone_does_not_disturb_an_iteration() -> None:
    entries = Entries()
    m = PersistentMap(entries, LARGE, autocommit=entries.transaction)
    m.update(a=b"1", b=b"2")
    iterator = iter(m.items())
    with aborted(entries):
        m["a"] = b"changed"
    assert list(iterator) == [("a", b"1"), ("b", b"2")]


# --- range and prefix ---


@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_is_half_open_and_ordered(reverse: bool) -> None:
    content = {key: key.encode() for key in [*KEYS_OUT_OF_ORDER, *sorted(MANY)[:150]]}
    m = new_map(content)
    bounds = [None, "", "a", "aa", "k0001", "k0001\x00", "k0100", "zz", "é", "\U0010ffff", "x" * 5000]
    for start in bounds:
        for stop in bounds:
            expected = [
                (key, value)
                for key, value in sorted(content.items(), reverse=reverse)
                if (start is None or key >= start) and (stop is None or key < stop)
            ]
            assert list(m.range(start, stop, reverse=reverse)) == expected
            for limit in (0, 1, 16, 17, 100, 5000):
                assert list(m.range(start, stop, reverse=reverse, limit=limit)) == expected[:limit]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_prefix_scan_gives_the_keys_that_start_so(reverse: bool) -> None:
    keys = ["a", "aa", "aé", "b", "", "\x7f", "\x7fa", "\u07ff", "\u07ffz", "\u0800", "\U0010ffff"]
    m = new_map(dict.fromkeys(keys, b""))
    for prefix in ["", "a", "aa", "ab", "\x7f", "\u07ff", "\U0010ffff", "x" * 5000]:
        expected = sorted((key for key in keys if key.startswith(prefix)), reverse=reverse)
        assert [key for key, _ in m.prefix(prefix, reverse=reverse)] == expected
        assert [key for key, _ in m.prefix(prefix, reverse=reverse, limit=2)] == expected[:2]


def test_wrong_bounds_are_refused_at_the_call() -> None:
    m: Any = new_map({"a": b"1"})
    for call in (m.range, partial(m.range, None), m.prefix):
        with pytest.raises(TypeError, match="a key is a str, not int"):
            call(5)
        with pytest.raises(InvalidInput, match="lone surrogates"):
            call(LONE_SURROGATE)
    with pytest.raises(TypeError):
        m.prefix(None)
    for call in (lambda limit: m.range(limit=limit), lambda limit: m.prefix("", limit=limit)):
        with pytest.raises(InvalidInput, match="at least 0, not -1"):
            call(-1)
        with pytest.raises((TypeError, ValueError)):
            call("1")
