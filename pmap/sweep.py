"""The sweep: which slice of the map each record re-encrypts, and which records a restart still needs.

The cursor walks the map in key order, a slice per commit, and starts again at the end. Where it stands depends on
keys and sizes only, never on which key was used, so the host learns nothing from its pace.

Law of the tail: an entry's newest copy is in the record that wrote it last or in the step of the sweep that covered
it last. Once the cursor has passed the whole range of a step of the previous cycle, that step's record is not needed.
A deletion is only listed in its own record's changes; any stale copy is older than it, so while the stale
copy is in the window the deletion is too.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

from sortedcontainers import SortedDict

from wire.errors import InvalidInput
from wire.limits import ENTRY_OVERHEAD_BYTES

SweepPolicy = Literal["incremental", "full"]
INCREMENTAL: Final = "incremental"
FULL: Final = "full"


def check_policy(policy: str) -> None:
    """Raises :class:`InvalidInput` unless ``policy`` is ``"incremental"`` or ``"full"``."""
    if policy not in (INCREMENTAL, FULL):
        raise InvalidInput(f'sweep is "incremental" or "full", not {policy!r}')


class Sweep:
    """The cursor and the steps ``(start key, n)`` of the previous and the current cycle."""

    __slots__ = ("_current", "_previous", "cursor", "tail")

    def __init__(self) -> None:
        self.cursor = b""
        self.tail = 1
        self._previous: deque[tuple[bytes, int]] = deque()
        self._current: deque[tuple[bytes, int]] = deque()

    def take(self, live: SortedDict, budget: int | None) -> tuple[list[bytes], int, bool]:
        """The next slice: ``([key, value, key, value, ...], bytes, wrapped)``.

        ``budget`` is in bytes (None: the whole map, from its start). An entry larger than the whole
        budget is taken alone. Moves nothing; :meth:`advance` does.
        """
        items: list[bytes] = []
        used = 0
        if budget is None:
            for key, value in live.items():
                items += (key, value)
                used += len(key) + len(value) + ENTRY_OVERHEAD_BYTES
            return items, used, True
        for key in live.irange(self.cursor):
            value = live[key]
            cost = len(key) + len(value) + ENTRY_OVERHEAD_BYTES
            if used + cost > budget and items:
                return items, used, False
            used += cost
            items.append(key)
            items.append(value)
        return items, used, True

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
