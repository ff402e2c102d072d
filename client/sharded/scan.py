"""A scan over all shards: each store's pages merged in the order of the keys.

What makes it whole: every page is asked of a store for the partitions that it owns by one map, and a store that does
not own all of them refuses. So all pages that are merged belong to one map, in which each partition is in exactly one
of them. When a store refuses, what was fetched and not given out is thrown away, and the scan goes on from there by the
newer map. No key that was there all the time is left out, and none comes twice.
"""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import Final

from client.sharded.router import Ask, Router, Steps
from wire.errors import InvalidInput, PmapError, ShardMapRefused, WrongShard
from wire.kv import Page, PartitionScan, after_prefix
from wire.limits import KIB, MAX_PAGE_ENTRIES, PAGE_BYTES
from wire.shard_map import ShardMap, encode_partitions

_SMALLEST_PAGE_BYTES: Final = 16 * KIB
_key = itemgetter(0)
Entry = tuple[str, bytes]


class _Shard:
    """One store's part: entries that were fetched, and the key from which on nothing was (None: there is no more)."""

    def __init__(self, store: bytes, partitions: bytes, start: str) -> None:
        self.store = store
        self.partitions = partitions
        self.entries: list[Entry] = []
        self.following: str | None = start

    def take(self, below: str | None) -> list[Entry]:
        """The entries below a key (None: all), which leave."""
        if below is None:
            taken, self.entries = self.entries, []
            return taken
        end = len(self.entries)
        while end and self.entries[end - 1][0] >= below:
            end -= 1
        taken, self.entries = self.entries[:end], self.entries[end:]
        return taken


class ShardScan:
    """A scan under way: :meth:`next` until it gives None."""

    def __init__(
        self, router: Router, start: str | None, stop: str | None, prefix: str | None, limit: int | None
    ) -> None:
        """As :meth:`client.kv.KeyValueClient.scan`. Raises :class:`InvalidInput`."""
        if prefix is not None and (start is not None or stop is not None):
            raise InvalidInput("a scan is over a prefix, or from a start to a stop")
        if limit is not None and limit < 0:
            raise InvalidInput(f"a limit is a number of entries, at least 0, not {limit}")
        self._router = router
        self._position: str | None = prefix if prefix is not None else (start or "")
        self._stop = after_prefix(prefix) if prefix is not None else stop
        self._left = limit
        self._map: ShardMap | None = None
        self._shards: list[_Shard] = []

    def next(self) -> Steps[list[Entry] | None]:
        """The next entries, perhaps none of them; None at the end. Raises the error of the first store that has one."""
        if self._position is None or self._left == 0:
            return None
        if self._map is not self._router.shards:
            self._begin_anew(self._router.shards, self._position)
        yield from self._fetch()
        if self._map is not self._router.shards:
            return []
        # Below this key every shard's entries are there.
        following = [shard.following for shard in self._shards if shard.following is not None]
        self._position = min(following, default=None)
        entries = list(heapq.merge(*(shard.take(self._position) for shard in self._shards), key=_key))
        if self._left is not None:
            entries = entries[: self._left]
            self._left -= len(entries)
        return entries

    def _begin_anew(self, shards: ShardMap, position: str) -> None:
        self._map = shards
        self._shards = [
            _Shard(store.store_id, encode_partitions(owned, shards.partitions), position)
            for store, owned in zip(shards.stores, shards.owned, strict=True)
            if owned
        ]

    def _fetch(self) -> Steps[None]:
        """A page of every shard of which nothing is left."""
        delays = iter(self._router.delays)
        limit = MAX_PAGE_ENTRIES if self._left is None else min(self._left, MAX_PAGE_ENTRIES)
        budget = max(PAGE_BYTES // len(self._shards), _SMALLEST_PAGE_BYTES)
        while True:
            empty = [shard for shard in self._shards if not shard.entries and shard.following is not None]
            asks: list[Ask] = []
            for shard in empty:
                assert shard.following is not None, "of those alone a page is asked"
                page = PartitionScan(shard.partitions, shard.following, self._stop, limit, budget)
                asks.append(self._router.ask(shard.store, [page]))
            asked = self._router.shards.version
            outcomes = yield asks
            refused: tuple[bytes, WrongShard | ShardMapRefused] | None = None
            for shard, outcome in zip(empty, outcomes, strict=True):
                if isinstance(outcome, WrongShard | ShardMapRefused):
                    refused = shard.store, outcome
                elif isinstance(outcome, PmapError):
                    outcome.add_note(f"This is about shard {shard.store.hex()}.")
                    raise outcome
                else:
                    (found,) = outcome
                    assert isinstance(found, Page), "a scan's result is a page"
                    shard.entries, shard.following = found.entries, found.next
            if refused is None:
                return
            delay = next(delays, None)
            if delay is None:
                raise refused[1]
            yield from self._router.catch_up(*refused, asked, delay)
            if self._router.shards is not self._map:
                return
