"""Opening records: whole and in order whoever opens them, ahead by no more than was said, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmap import opening
from pmap.keyring import Keyring
from pmap.opening import Opener
from wire.errors import CorruptedStore, UnsupportedVersion
from wire.merkle import leaf_hash
from wire.record import HEADER_BYTES, RECORD_OVERHEAD_BYTES, encode_header

KEYRING = Keyring(bytes(range(16)), bytes(range(32)))
EPOCH, NEXT_EPOCH = bytes(32), bytes(4) + b"\x01" * 28
LARGE = 1000
"""From this many bytes on a record is large here."""
AHEAD = 3 * LARGE
THREADS = 3


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(opening, "_LARGE_BYTES", LARGE)
    monkeypatch.setattr(opening, "_AHEAD_BYTES", AHEAD)
    before = threading.active_count()
    yield
    assert threading.active_count() == before, "every thread has ended"


def record(n: int, length: int = 200, epoch: bytes = EPOCH) -> bytes:
    """A whole record of this length, whose body says which one it is."""
    header = encode_header(KEYRING.store_id, epoch, n, 1, bytes(32))
    body = b"record %d" % n
    plaintext = (len(body).to_bytes(4, "big") + body).ljust(length - RECORD_OVERHEAD_BYTES + 4, b"\x00")
    key = KEYRING.log_key(epoch) if epoch in (EPOCH, NEXT_EPOCH) else bytes(32)
    sealed = AESGCM(key).encrypt(n.to_bytes(12, "big"), plaintext, header)
    assert len(header + sealed) == length
    return header + sealed


def altered(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


class Shown:
    """Records, noting how many of them were asked for."""

    def __init__(self, records: list[bytes]) -> None:
        self.records = records
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for each in self.records:
            self.taken += 1
            yield each


def opening_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "opening records"]


LENGTHS = [
    200,
    LARGE - 1,
    LARGE,
    LARGE + 1,
    150,
    4 * LARGE,
    2 * LARGE,
    130,
    130,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    LARGE,
    300,
]


def test_records_come_out_whole_and_in_order_whatever_their_lengths() -> None:
    records = [record(n, length) for n, length in enumerate(LENGTHS, 1)]
    numbers = []
    for opened, expected in zip(Opener(KEYRING).open(records), records, strict=True):
        numbers.append(opened.header.n)
        assert bytes(opened.body()) == b"record %d" % opened.header.n
        assert opened.leaf == leaf_hash(expected)
        assert expected.startswith(encode_header(*opened.header))
    assert numbers == list(range(1, len(LENGTHS) + 1))


def test_small_records_are_opened_one_by_one_without_a_thread() -> None:
    shown = Shown([record(n, LARGE - 1) for n in range(1, 5)])
    for place, opened in enumerate(Opener(KEYRING).open(shown), 1):
        assert opened.header.n == shown.taken == place
        assert opening_threads() == []


def test_large_records_are_opened_ahead_up_to_their_bound_by_threads_that_end_with_them() -> None:
    shown = Shown([record(n, LARGE) for n in range(1, 9)])
    taken = []
    for opened in Opener(KEYRING).open(shown):
        taken.append(shown.taken)
        # One that is daemonic ends with the process, whatever keeps it.
        assert len(opening_threads()) == THREADS and all(thread.daemon for thread in opening_threads())
        assert bytes(opened.body()) == b"record %d" % opened.header.n
    # Three are on their way when the fourth is asked for, which has to wait for the first.
    assert taken == [4, 5, 6, 7, 8, 8, 8, 8]


@pytest.mark.parametrize(
    ("lengths", "taken"),
    [
        pytest.param([LARGE, LARGE, AHEAD - 2 * LARGE, LARGE], [4, 4, 4, 4], id="just the bound is ahead"),
        pytest.param([LARGE, LARGE, AHEAD - 2 * LARGE + 1, LARGE], [3, 4, 4, 4], id="a byte more than the bound"),
        pytest.param([2 * AHEAD, LARGE, LARGE], [2, 3, 3], id="one alone may be larger"),
        pytest.param([LARGE, 2 * AHEAD, LARGE], [2, 3, 3], id="a larger one waits for all before it"),
        pytest.param([LARGE, LARGE, LARGE, 2 * AHEAD, LARGE], [4, 4, 4, 5, 5], id="it waits for several"),
        pytest.param([LARGE, LARGE, 200, LARGE, 200], [3, 3, 3, 5, 5], id="a small one waits for the large before it"),
        pytest.param(
            [LARGE, LARGE, 2 * LARGE, 2 * LARGE, LARGE, LARGE], [3, 4, 4, 6, 6, 6], id="what came out counts no more"
        ),
    ],
)
def test_no_more_bytes_than_the_bound_are_ahead(lengths: list[int], taken: list[int]) -> None:
    shown = Shown([record(n, length) for n, length in enumerate(lengths, 1)])
    assert [shown.taken for _ in Opener(KEYRING).open(shown)] == taken


def test_no_more_threads_start_than_there_are_large_records_and_never_more_than_three() -> None:
    for count in (1, 2, 3, 4):
        opened = Opener(KEYRING).open([record(n, LARGE // 2 if n > count else LARGE) for n in range(1, 9)])
        next(opened)
        assert len(opening_threads()) == min(count, THREADS)
        opened.close()
        assert opening_threads() == []


@pytest.mark.parametrize("length", [200, LARGE])
def test_memory_is_used_again_by_a_record_that_fits_into_it(length: int) -> None:
    # One by one, or one ahead: as many buffers as records are open at once.
    lengths = [length, length, 2 * length, length, length]
    records = [record(n, each) for n, each in enumerate(lengths, 1)]
    used = [opened.body().obj for opened in Opener(KEYRING).open(records)]
    assert len(set(map(id, used))) < len(used)


def test_a_small_record_after_a_larger_one_is_read_from_the_same_memory_and_to_its_own_end() -> None:
    records = [record(1, 900), record(2, 200), record(3, 900), record(4, 901), record(5, 901)]
    used = []
    for opened in Opener(KEYRING).open(records):
        assert bytes(opened.body()) == b"record %d" % opened.header.n
        used.append(opened.body().obj)
    assert used[0] is used[1] is used[2], "the third fits exactly"
    assert used[3] is not used[2] and used[4] is used[3]
    assert list(map(len, used)) == [900, 900, 900, 901, 901]


def test_large_records_that_are_ahead_together_hold_no_more_than_twice_their_size() -> None:
    lengths = []
    for count in (1, 2, 3):  # before each long one as many as there are buffers of long ones by now
        lengths += [LARGE] * count + [2 * AHEAD, 200]
    records = [record(n, length) for n, length in enumerate([*lengths, LARGE, LARGE, LARGE], 1)]
    used = [(len(opened.body().obj), opened.header.n) for opened in Opener(KEYRING).open(records)]
    assert all(size <= 2 * len(records[n - 1]) for size, n in used if len(records[n - 1]) >= LARGE)


def test_the_key_of_an_epoch_is_derived_once_and_its_name_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    log_key = Keyring.log_key

    def noted(self: Keyring, epoch: bytes) -> bytes:
        asked.append(epoch)
        return log_key(self, epoch)

    records = [record(1), record(2, LARGE), record(3, epoch=NEXT_EPOCH), record(4, epoch=NEXT_EPOCH), record(5)]
    monkeypatch.setattr(Keyring, "log_key", noted)
    opener = Opener(KEYRING)
    assert opener.epochs == set()
    for opened in opener.open(records):
        opened.body()
    assert asked == [EPOCH, NEXT_EPOCH]
    assert opener.epochs == {EPOCH, NEXT_EPOCH}


@pytest.mark.parametrize("length", [200, LARGE])
def test_an_altered_record_is_refused_when_its_body_is_asked_for_and_no_sooner(length: int) -> None:
    records = [record(1, length), altered(record(2, length)), record(3, length)]
    for opened, shown in zip(Opener(KEYRING).open(records), records, strict=True):
        assert opened.leaf == leaf_hash(shown), "whoever checks its place can do so"
        if opened.header.n == 2:
            with pytest.raises(CorruptedStore, match="record 2 was altered"):
                opened.body()
        else:
            assert bytes(opened.body()) == b"record %d" % opened.header.n


@pytest.mark.parametrize("length", [200, LARGE])
def test_a_record_under_keys_that_the_keyring_does_not_hold_is_refused_likewise(length: int) -> None:
    foreign = record(2, length, epoch=b"\x00\x00\x00\x07" + bytes(28))
    for opened in Opener(KEYRING).open([record(1, length), foreign, record(3, length)]):
        if opened.header.n == 2:
            assert opened.leaf == leaf_hash(foreign)
            with pytest.raises(CorruptedStore, match="generation 7"):
                opened.body()
        else:
            assert bytes(opened.body()) == b"record %d" % opened.header.n


@pytest.mark.parametrize("length", [200, LARGE])
@pytest.mark.parametrize(
    ("garbage", "refused"),
    [(bytes(200), CorruptedStore), (b"", CorruptedStore), (b"pml\x02" + bytes(200), UnsupportedVersion)],
)
def test_what_is_no_record_is_refused_after_the_records_before_it(
    length: int, garbage: bytes, refused: type[Exception]
) -> None:
    numbers = []
    with pytest.raises(refused):
        for opened in Opener(KEYRING).open([record(1, length), record(2, length), garbage, record(3, length)]):
            assert bytes(opened.body()) == b"record %d" % opened.header.n
            numbers.append(opened.header.n)
    assert numbers == [1, 2]


def test_an_opener_that_was_given_up_half_way_opens_again() -> None:
    records = [record(n, LARGE) for n in range(1, 9)]
    opener = Opener(KEYRING)
    first = opener.open(records)
    next(first)
    first.close()
    assert [opened.header.n for opened in opener.open(records)] == list(range(1, 9))


def test_the_header_is_authentic_too() -> None:
    whole = record(1)
    moved = whole[: HEADER_BYTES - 1] + b"\x01" + whole[HEADER_BYTES:]
    (opened,) = Opener(KEYRING).open([moved])
    with pytest.raises(CorruptedStore, match="altered"):
        opened.body()
