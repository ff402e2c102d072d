"""The keys of a dictionary in order: what scans and the sweep walk along.

A list of sorted lists ("chunks") of a thousand keys or so, with the last key of each in a list of its own: two binary
searches find a key's place, an insertion moves the keys of one chunk only, and a walk copies slices. The layout is that
of ``sortedcontainers.SortedList``, of which this is the part that is needed, without a Python call for each key.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

CHUNK_KEYS: Final = 1024
"""Keys in a new chunk; twice as many are split. Measured: 500 to 2000 make no difference."""
FIRST_RUN: Final = 16
LONGEST_RUN: Final = 512
"""Walks take keys in runs; the first is short, so that looking at the first few keys is cheap."""


class KeyOrder:
    """Distinct keys in ascending order."""

    __slots__ = ("_chunks", "_lasts")

    def __init__(self, ordered: list[bytes] | None = None) -> None:
        """``ordered``: ascending and distinct, which the caller vouches for."""
        keys = ordered or []
        self._chunks = [keys[at : at + CHUNK_KEYS] for at in range(0, len(keys), CHUNK_KEYS)]
        self._lasts = [chunk[-1] for chunk in self._chunks]

    @classmethod
    def of_chunks(cls, chunks: list[list[bytes]]) -> KeyOrder:
        """From lists in order, none of them empty or longer than ``CHUNK_KEYS``, which the caller vouches for."""
        order = cls()
        order._chunks = chunks
        order._lasts = [chunk[-1] for chunk in chunks]
        return order

    def __iter__(self) -> Iterator[bytes]:
        """All of them; nothing may be added or removed meanwhile."""
        for chunk in self._chunks:
            yield from chunk

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __contains__(self, key: bytes) -> bool:
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return False
        chunk = self._chunks[at]
        return chunk[bisect_left(chunk, key)] == key

    def add(self, key: bytes) -> None:
        """Put in a key that is not there."""
        chunks, lasts = self._chunks, self._lasts
        at = bisect_left(lasts, key)
        if at < len(lasts):
            chunk = chunks[at]
            insort(chunk, key)
        elif chunks:
            at -= 1
            chunk = chunks[at]
            chunk.append(key)
            lasts[at] = key
        else:
            chunks.append([key])
            lasts.append(key)
            return
        if len(chunk) >= 2 * CHUNK_KEYS:
            chunks.insert(at + 1, chunk[CHUNK_KEYS:])
            del chunk[CHUNK_KEYS:]
            lasts.insert(at, chunk[-1])

    def remove(self, key: bytes) -> None:
        """Take out a key that is there."""
        chunks, lasts = self._chunks, self._lasts
        at = bisect_left(lasts, key)
        chunk = chunks[at]
        del chunk[bisect_left(chunk, key)]
        if not chunk:
            del chunks[at], lasts[at]
            return
        lasts[at] = chunk[-1]
        # Chunks that have become small are joined, so that a shrinking map does not keep a list for each key.
        if len(chunk) < CHUNK_KEYS // 4:
            for left in (at - 1, at):
                if 0 <= left < len(chunks) - 1 and len(chunks[left]) + len(chunks[left + 1]) <= CHUNK_KEYS:
                    chunks[left] += chunks[left + 1]
                    del chunks[left + 1], lasts[left]
                    return

    def run(self, low: bytes, high: bytes | None, length: int) -> list[bytes]:
        """The first keys with ``low <= key < high`` (None: to the end), at most ``length``, in order.

        Fewer than ``length`` only where there are no more.
        """
        chunks = self._chunks
        at = bisect_left(self._lasts, low)
        if at == len(chunks):
            return []
        start = bisect_left(chunks[at], low)
        run = chunks[at][start : start + length]
        while len(run) < length and at + 1 < len(chunks):
            at += 1
            run += chunks[at][: length - len(run)]
        if high is not None and run and run[-1] >= high:
            del run[bisect_left(run, high) :]
        return run

    def last_run(self, low: bytes, high: bytes | None, length: int) -> list[bytes]:
        """The last keys with ``low <= key < high``, at most ``length``, from the last to the first."""
        chunks = self._chunks
        at = len(chunks) if high is None else bisect_left(self._lasts, high)
        run: list[bytes] = []
        if at < len(chunks):
            assert high is not None
            stop = bisect_left(chunks[at], high)
            run = chunks[at][max(0, stop - length) : stop]
        run.reverse()
        while len(run) < length and at > 0:
            at -= 1
            run += chunks[at][: -(length - len(run)) - 1 : -1]
        if run and run[-1] < low:
            run.reverse()
            del run[: bisect_left(run, low)]
            run.reverse()
        return run

    def runs(self, low: bytes, high: bytes | None, reverse: bool = False) -> Iterator[list[bytes]]:
        """The keys with ``low <= key < high`` in runs. Each goes on where the last one ended, by key: keys may be added
        and removed between two runs, and those of the run at hand are as they were."""
        length = FIRST_RUN
        while run := (self.last_run if reverse else self.run)(low, high, length):
            yield run
            if len(run) < length:
                return
            if reverse:
                high = run[-1]
            else:
                low = run[-1] + b"\x00"  # the next key that there can be
            length = min(2 * length, LONGEST_RUN)
