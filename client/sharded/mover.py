"""Makes shard maps and brings the stores to what they say: founding a cluster, adding stores, moving partitions.

A move is two maps. The first one begins it: the source takes no more writes for the partitions, the target takes
entries from this mover. The entries are copied. The second map says exactly what has arrived, and the target owns the
partitions. Then the source removes what it no longer owns::

    map v+1 signed → kept → source (no writes) → target (empty room)
    copy, page by page                                            a move can be given up until here
    map v+2 signed → kept → source (not owned) → target (owned) → all others → source removes its copy

Each step may be repeated, and what is done is seen from the stores themselves, so that a crash at any point, of the
mover, a host or an enclave, is followed by :meth:`Mover.settle` and nothing else. The one thing that must not be lost
or taken back is the newest signed map: it is kept durably before any store sees it, so that there are never two of one
version. Source and target never own a partition at the same time: the source gives it up first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from client.kv import KeyValueClient
from client.kv_operations import mails
from client.sharded.cluster import Cluster
from wire.crypto import HASH_BYTES, SigningKey
from wire.errors import InvalidInput, PmapError
from wire.kv import (
    Arrived,
    Import,
    Install,
    Page,
    PartitionScan,
    Purge,
    Put,
    ShardOperation,
    Shards,
    ShardStatus,
    Size,
    Usage,
)
from wire.limits import MAX_EXAMINED_KEYS, MAX_PAGE_ENTRIES, PAGE_BYTES
from wire.shard_map import (
    Arrival,
    Move,
    ShardMap,
    ShardStore,
    arrival_digest,
    encode_partitions,
    rendezvous,
    sign_shard_map,
)

MOVER_TOPIC: Final = "mover"
MOVE_AT_ONCE: Final = 32
"""Partitions that one move of a plan takes along. Each move reads its source's keys once."""
Step = Callable[[str], object]
"""Is told of each step before it is done and after it: for whoever shows progress, and for tests that stop here."""
Entry = tuple[str, bytes]


class MoveFailed(PmapError):
    """What has arrived at a move's target is not what its source has. Nothing has changed its owner."""


def _nobody(_step: str) -> None:
    pass


class Mover:
    """The owner's hand. ``cluster`` keeps the newest map; ``key`` is the owner's."""

    def __init__(self, cluster: Cluster, key: SigningKey, step: Step = _nobody) -> None:
        self._cluster = cluster
        self._key = key
        self._step = step

    @property
    def shards(self) -> ShardMap:
        """The newest map."""
        return self._cluster.router.shards

    # --- the next map ------------------------------------------------------------------------------------

    def begin_move(self, partitions: Sequence[int], target: int) -> None:
        """Sign and keep the map that begins a move to the store at this place; :meth:`settle` does the rest.

        Raises :class:`InvalidInput` for partitions of several stores, or while another move is under way.
        """
        self._check_settled("a move begins")
        shards = self.shards
        if not partitions or not all(0 <= partition < shards.partitions for partition in partitions):
            raise InvalidInput(f"a move is of partitions from 0 to {shards.partitions - 1}")
        sources = {shards.owners[partition] for partition in partitions}
        if len(sources) != 1 or target in sources:
            raise InvalidInput("a move takes partitions of one store to another one")
        mover = bytes.fromhex(self._cluster.client(shards.stores[target].store_id).client_id)
        self._keep(shards.next(move=Move(sources.pop(), target, tuple(sorted(set(partitions))), mover)))

    def give_up(self) -> None:
        """Sign and keep the map that gives up the move under way; :meth:`settle` does the rest.

        Raises :class:`InvalidInput` where there is none, or where it can only be completed.
        """
        move = self.shards.move
        if move is None or move.arrived is not None:
            raise InvalidInput(
                "no move is on its way that could be given up; one that has arrived is finished by 'pmap shards resume'"
            )
        self._keep(self.shards.next())

    def add(self, stores: Sequence[ShardStore]) -> None:
        """Sign and keep a map with more stores, which own nothing yet."""
        self._check_settled("a store is added")
        self._keep(self.shards.next(stores=[*self.shards.stores, *stores]))

    def readdress(self, place: int, url: str) -> None:
        """Sign and keep a map in which the store at this place has another address. Raises :class:`Malformed`."""
        self._check_settled("a store gets another address")
        stores = list(self.shards.stores)
        stores[place] = stores[place]._replace(url=url)
        self._keep(self.shards.next(stores=stores))

    def _check_settled(self, then: str) -> None:
        move = self.shards.move
        if move is not None and move.arrived is None:
            raise InvalidInput(f"a move is under way: settle it, or give it up, before {then}")

    def _keep(self, shards: ShardMap) -> None:
        self._step(f"sign map {shards.version}")
        self._cluster.keep(sign_shard_map(self._key, shards))
        self._step(f"kept map {shards.version}")

    # --- bringing the stores to it -----------------------------------------------------------------------

    def settle(self) -> None:
        """Bring every store to what the newest map says, and a move that it begins to its end. May be repeated.

        Raises the error of the store that stands in the way; everything that was done is done.
        """
        move = self.shards.move
        if move is not None and move.arrived is None:
            self._install(move.source)
            self._install(move.target)
            self._purge(move.target)
            arrival = self._copy(move)
            self._keep(self.shards.arrive(arrival))
            move = self.shards.move
        first = [] if move is None else [move.source, move.target]
        for place in [*first, *(place for place in range(len(self.shards.stores)) if place not in first)]:
            self._install(place)
        for place in range(len(self.shards.stores)):
            self._purge(place)

    def _install(self, place: int) -> None:
        self._step(f"install map {self.shards.version} at {place}")
        self._ask(place, Install(self._cluster.router.signed))
        self._step(f"installed map {self.shards.version} at {place}")

    def _purge(self, place: int) -> None:
        while self.status(place).residue:
            self._step(f"purge {place}")
            self._ask(place, Purge(MAX_EXAMINED_KEYS))
            self._step(f"purged {place}")

    def _copy(self, move: Move) -> Arrival:
        """Copy what is not there yet. All of the source's entries are read, so that the digest is over them."""
        there = self.status(move.target).arrived
        assert there is not None and there.version == self.shards.version, "the target has the map"
        count, digest = 0, bytes(HASH_BYTES)
        new: list[Entry] = []
        for page in self.pages(move.source, move.partitions):
            for key, value in page:
                count, digest = count + 1, arrival_digest(digest, key, value)
                if there.last is None or key > there.last:
                    new.append((key, value))
            there = self._import(move.target, there, new)
            new = []
        if (there.entries, there.digest) != (count, digest):
            raise MoveFailed("what has arrived at the target is not what the source has: give the move up")
        return Arrival(count, digest)

    def pages(self, place: int, partitions: Iterable[int]) -> Iterator[list[Entry]]:
        """All entries of partitions of the store at this place, in order, a mail at a time."""
        wanted = encode_partitions(partitions, self.shards.partitions)
        start: str | None = ""
        while start is not None:
            page: Page = self._ask(place, PartitionScan(wanted, start, None, MAX_PAGE_ENTRIES, PAGE_BYTES))
            yield page.entries
            start = page.next

    def _import(self, target: int, there: Arrived, entries: list[Entry]) -> Arrived:
        for mail in mails(Put(key, value) for key, value in entries):
            part = [(put.key, put.value) for put in mail if isinstance(put, Put)]
            self._step(f"import after {there.entries} entries")
            there = self._ask(target, Import(self.shards.version, part))
            self._step(f"imported {there.entries} entries")
        return there

    def status(self, place: int) -> ShardStatus:
        """What the store at this place knows."""
        status: ShardStatus = self._ask(place, Shards())
        return status

    def usage(self, place: int) -> Usage:
        """How much is in the store at this place."""
        usage: Usage = self._ask(place, Size())
        return usage

    def learn(self) -> None:
        """Take the newest map that a store has. One that cannot be asked is left out; :meth:`settle` will say why."""
        self._cluster.run(self._cluster.router.refresh(), MOVER_TOPIC)

    def _ask(self, place: int, operation: ShardOperation | Size) -> Any:
        client = KeyValueClient(self._cluster.client(self.shards.stores[place].store_id), MOVER_TOPIC)
        (result,) = client.execute([operation])
        return result


def plan(shards: ShardMap, leaving: Collection[int] = (), at_once: int = MOVE_AT_ONCE) -> list[tuple[list[int], int]]:
    """The moves, partitions and target, after which :func:`rendezvous` is kept among all stores but those ``leaving``.

    A move has at most ``at_once`` partitions: so many take no writes while it is under way.
    """
    staying = [place for place in range(len(shards.stores)) if place not in leaving]
    if not staying:
        raise InvalidInput("not all stores of a shard map can leave it")
    ids = [shards.stores[place].store_id for place in staying]
    ways: dict[tuple[int, int], list[int]] = {}
    for partition, owner in enumerate(shards.owners):
        target = staying[rendezvous(partition, ids)]
        if target != owner:
            ways.setdefault((owner, target), []).append(partition)
    return [
        (partitions[start : start + at_once], target)
        for (_, target), partitions in sorted(ways.items())
        for start in range(0, len(partitions), at_once)
    ]
