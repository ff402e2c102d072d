"""The sweep: which slice of the map each record re-encrypts, and which records a restart still needs.

The cursor walks the map in key order, a slice per commit, and starts again at the end. Where it stands depends on
keys and sizes only, never on which key was used, so the host learns nothing from its pace.

Law of the tail: an entry's newest copy is in the record that wrote it last or in the step of the sweep that covered
it last. Once the cursor has passed the whole range of a step of the previous cycle, that step's record is not needed.
A deletion is only listed in its own record's changes; any stale copy is older than it, so while the stale
copy is in the window the deletion is too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import accumulate
from operator import add
from typing import Final, Literal

from pmap.order import KeyOrder
from wire.errors import InvalidInput
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_FULL_SWEEP_BYTES

SweepPolicy = Literal["incremental", "full"]
INCREMENTAL: Final = "incremental"
FULL: Final = "full"


def check_policy(policy: str) -> None:
    """Raises :class:`InvalidInput` unless ``policy`` is ``"incremental"`` or ``"full"``."""
    if policy not in (INCREMENTAL, FULL):
        raise InvalidInput(f'sweep is "incremental" or "full", not {policy!r}')


class Sweep:
    """The cursor and the steps ``(start key, n)`` of the previous and the current cycle."""

    __slots__ = ("_current", "_guess", "_previous", "cursor", "tail")

    def __init__(self) -> None:
        self.cursor = b""
        self.tail = 1
        self._guess = 16
        self._previous: deque[tuple[bytes, int]] = deque()
        self._current: deque[tuple[bytes, int]] = deque()

    def take(self, live: dict[bytes, bytes], order: KeyOrder, budget: int | None) -> tuple[list[bytes], int, bool]:
        """The next slice: ``([key, value, key, value, ...], bytes, wrapped)``.

        ``budget`` is in bytes (None: the whole map, from its start). An entry larger than the whole
        budget is taken alone. Moves nothing; :meth:`advance` does.
        """
        if budget is None:
            cost = _cost(live)
            if cost <= MAX_FULL_SWEEP_BYTES:
                keys = list(order)
                return _flat(keys, list(map(live.__getitem__, keys))), cost, True
            # More than one record holds, with everything beside the map: as much of it as does.
            budget = MAX_FULL_SWEEP_BYTES
        # In bulk, not entry by entry: this is the larger part of a small commit's cost. How many entries fit is
        # guessed from the last slice, and put right.
        guess = self._guess
        while True:
            keys = order.run(self.cursor, None, guess)
            values = list(map(live.__getitem__, keys))
            costs = list(accumulate(map(add, map(len, keys), map(len, values))))
            fit = bisect_right(range(len(costs)), budget, key=lambda i: costs[i] + (i + 1) * ENTRY_OVERHEAD_BYTES)
            if fit == guess:
                guess *= 2
                continue
            wrapped = fit == len(keys)
            if not wrapped and fit == 0:
                fit = 1
                wrapped = len(keys) == 1 and guess > 1
            self._guess = fit + 2
            used = costs[fit - 1] + fit * ENTRY_OVERHEAD_BYTES if fit else 0
            return _flat(keys[:fit], values[:fit]), used, wrapped

    def advance(self, n: int, last_key: bytes | None, wrapped: bool) -> int:
        """Record ``n`` swept up to and including ``last_key`` (None: nothing). Returns the new tail.

        Also called on replay, record by record, which rebuilds the steps.
        """
        self._current.append((self.cursor, n))
        if wrapped:
            self._previous = self._current
            self._current = deque()
            self.cursor = b""
        else:
            assert last_key is not None, "a step that does not end the cycle sweeps at least one entry"
            self.cursor = cursor = last_key + b"\x00"
            previous = self._previous
            while len(previous) > 1 and previous[1][0] <= cursor:
                previous.popleft()
        self.tail = (self._previous or self._current)[0][1]
        return self.tail


def _flat(keys: list[bytes], values: list[bytes]) -> list[bytes]:
    flat = [b""] * (2 * len(keys))
    flat[::2] = keys
    flat[1::2] = values
    return flat


def _cost(live: dict[bytes, bytes]) -> int:
    return sum(map(len, live)) + sum(map(len, live.values())) + len(live) * ENTRY_OVERHEAD_BYTES
