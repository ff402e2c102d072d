"""Many stores behind one client, without I/O: which store gets what, what its answers mean, which shard map holds.

An operation is a generator of rounds, driven by :mod:`client.sharded.cluster` and :mod:`client.sharded.aio` alike: it
yields a list of :class:`Ask`, to be sent at the same time, and gets a list of outcomes; or a :class:`Pause`, or a
:class:`Keep`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from client.kv_operations import SwapFailed
from wire.errors import (
    ForkDetected,
    FreshnessError,
    InvalidInput,
    PartitionMoving,
    PmapError,
    RollbackDetected,
    ShardMapForked,
    ShardMapInvalid,
    ShardMapRefused,
    StaleShardMap,
    WrongShard,
)
from wire.kv import Delete, Get, Install, Operation, Put, Result, Shards, ShardStatus, Size, Swap, Usage
from wire.limits import MAX_OPERATIONS
from wire.shard_map import ShardMap, open_shard_map

MOVING_DELAYS: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, *(2.0,) * 14)
"""Seconds between one attempt and the next while a partition is on its way to another store: half a minute in all."""


class Ask(NamedTuple):
    """One mail to one store (its id). ``introduces``: the version of the map that its first operation installs."""

    store: bytes
    operations: list[Operation]
    introduces: int = 0


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Keep(NamedTuple):
    """Keep this signed map: durably, before anything else is done by it."""

    signed: bytes


Outcome: TypeAlias = list[Result] | PmapError
"""What became of an :class:`Ask`."""
_T = TypeVar("_T")
Steps: TypeAlias = Generator[list[Ask] | Pause | Keep, list[Outcome], _T]


class ShardsFailed(PmapError):
    """Some of the stores did not do their part; the others did theirs.

    ``outcomes``: of each store that was asked (its id) the results of its operations in their order, or its error.
    """

    def __init__(self, outcomes: dict[bytes, Outcome]) -> None:
        failed = {store: outcome for store, outcome in outcomes.items() if isinstance(outcome, PmapError)}
        reasons = "; ".join(f"{store.hex()}: {type(error).__name__}: {error}" for store, error in failed.items())
        super().__init__(f"{len(failed)} of {len(outcomes)} shards failed, the others did their part: {reasons}")
        self.outcomes = outcomes

    @property
    def errors(self) -> dict[bytes, PmapError]:
        """Of each store that failed its error."""
        return {store: outcome for store, outcome in self.outcomes.items() if isinstance(outcome, PmapError)}


class Router:
    """The shard map that holds, and every operation over it.

    ``quarantined``: of each store that was caught by this client the verdict. Such a store's verdict is raised by every
    operation that touches it, and by no other.
    """

    def __init__(self, owner_key: bytes, signed: bytes, delays: Sequence[float] = MOVING_DELAYS) -> None:
        """Raises :class:`ShardMapInvalid`."""
        self.shards = open_shard_map(signed, owner_key)
        self.signed = signed
        self.delays = tuple(delays)
        self.quarantined: dict[bytes, FreshnessError] = {}
        # Of each store the version of the map that it was given, or had, at least.
        self._introduced: dict[bytes, int] = {}

    def learn(self, untrusted_signed: bytes) -> Steps[None]:
        """Take a map that somebody shows, if it is a newer one.

        Raises :class:`ShardMapInvalid`, :class:`StaleShardMap`, :class:`ShardMapForked`; the present one holds then.
        """
        newer = self.newer(untrusted_signed)
        if newer is not None:
            yield Keep(untrusted_signed)
            if newer.version > self.shards.version:  # another thread may have been faster
                self.shards, self.signed = newer, untrusted_signed

    def newer(self, untrusted_signed: bytes) -> ShardMap | None:
        """The map, checked against the one that holds; None if it is that one. Raises as :meth:`learn` does."""
        present = self.shards
        shown = open_shard_map(untrusted_signed, present.owner_key)
        if (shown.cluster, shown.partitions) != (present.cluster, present.partitions):
            raise ShardMapInvalid("this is the shard map of another cluster of the same owner")
        if shown.version < present.version:
            raise StaleShardMap(
                f"shard map {shown.version} was shown where map {present.version} was seen before: the host, or whoever"
                " keeps the map, went back to an older one"
            )
        if shown.version == present.version and shown != present:
            raise ShardMapForked(f"there are two shard maps of version {shown.version}, both signed by the owner")
        return None if shown == present else shown

    # --- operations on keys ------------------------------------------------------------------------------

    def execute(self, operations: Sequence[Operation]) -> Steps[list[Result]]:
        """Carry out operations, all of a store's in one mail, and return their results in order.

        Raises the store's own error where one alone was asked, else :class:`ShardsFailed`.
        """
        results: list[Result] = [None] * len(operations)
        outcomes: dict[bytes, Outcome] = {}
        left, delays = list(range(len(operations))), iter(self.delays)
        while left:
            groups, asked = self._groups(operations, left), self.shards.version
            answers = yield [
                self.ask(store, [operations[place] for place in places]) for store, places in groups.items()
            ]
            left = []
            for (store, places), outcome in zip(groups.items(), answers, strict=True):
                if isinstance(outcome, SwapFailed):
                    outcome = SwapFailed(places[outcome.position], outcome.receipt)
                elif isinstance(outcome, WrongShard | ShardMapRefused):
                    # Nothing of this mail was executed. The map may be older than the store, or the store than the map.
                    delay = next(delays, None)
                    if delay is not None:
                        try:
                            yield from self.catch_up(store, outcome, asked, delay)
                        except PmapError as error:
                            outcome = error
                        else:
                            left += places
                            continue
                elif not isinstance(outcome, PmapError):
                    for place, result in zip(places, outcome, strict=True):
                        results[place] = result
                    earlier = outcomes.get(store, [])
                    outcome = outcome if isinstance(earlier, PmapError) else earlier + outcome
                outcomes[store] = outcome
            left.sort()
        self._raise_failures(outcomes)
        return results

    def usage(self) -> Steps[Usage]:
        """All stores' counts together."""
        stores = [store.store_id for store in self.shards.stores]
        answers = yield [Ask(store, [Size()]) for store in stores]
        self._raise_failures(dict(zip(stores, answers, strict=True)))
        parts = [outcome[0] for outcome in answers if not isinstance(outcome, PmapError)]
        sums = [sum(counts) for counts in zip(*(part for part in parts if isinstance(part, Usage)), strict=True)]
        return Usage(*sums)

    def _groups(self, operations: Sequence[Operation], places: list[int]) -> dict[bytes, list[int]]:
        groups: dict[bytes, list[int]] = {}
        shards = self.shards
        for place in places:
            operation = operations[place]
            if not isinstance(operation, Get | Put | Delete | Swap):
                raise InvalidInput(
                    f"a {type(operation).__name__.lower()} goes over all shards, so it cannot be part of a batch"
                )
            store = shards.stores[shards.owner_of(operation.key)].store_id
            groups.setdefault(store, []).append(place)
        return groups

    def _raise_failures(self, outcomes: dict[bytes, Outcome]) -> None:
        errors = [(store, outcome) for store, outcome in outcomes.items() if isinstance(outcome, PmapError)]
        for store, error in errors:
            error.add_note(f"This is about shard {store.hex()}.")
        if errors:
            raise errors[0][1] if len(outcomes) == 1 else ShardsFailed(outcomes)

    # --- shards and their maps ---------------------------------------------------------------------------

    def ask(self, store: bytes, operations: list[Operation]) -> Ask:
        """A mail to a store, which is given the map with it if it was not given this one yet.

        So every store that is spoken to enforces this map or a later one. One that was put back to before it owned what
        the map gives it cannot take the map, and is found out even by a client that has never spoken to it.
        """
        version = self.shards.version
        if self._introduced.get(store, 0) >= version or len(operations) >= MAX_OPERATIONS:
            return Ask(store, operations)
        return Ask(store, [Install(self.signed), *operations], version)

    def noted(self, ask: Ask, outcome: Outcome) -> Outcome:
        """Every outcome passes through here: verdicts about a store are noted, and what was asked beside left out."""
        if isinstance(outcome, RollbackDetected | ForkDetected):
            self.quarantined[ask.store] = outcome
        if ask.introduces and not isinstance(outcome, PmapError):
            self._introduced[ask.store] = ask.introduces
            return outcome[1:]
        if ask.introduces and isinstance(outcome, SwapFailed):
            return SwapFailed(outcome.position - 1, outcome.receipt)
        return outcome

    def catch_up(self, store: bytes, refusal: WrongShard | ShardMapRefused, asked: int, delay: float) -> Steps[None]:
        """After a store has refused an operation: see to it that the next attempt may go better.

        ``asked``: the version of the map by which it was asked. Raises the refusal of a store that cannot take the map,
        :class:`ShardMapForked`, and what :meth:`learn` raises.
        """
        version = self.shards.version
        if version > asked:
            return  # learned meanwhile, from another store or by another thread: the refusal is of an older question
        if refusal.version > version:
            status = yield from self.status(store)
            if status.signed is not None:
                try:
                    yield from self.learn(status.signed)
                except StaleShardMap:
                    if self.shards.version == version:
                        raise  # else it was newer than ours when it was asked for
        elif isinstance(refusal, PartitionMoving):
            yield Pause(delay)
        elif isinstance(refusal, ShardMapRefused) and refusal.version < version:
            raise refusal
        elif refusal.version < version:
            # Whoever moves partitions tells the source first; the map itself lets anybody tell the others.
            (outcome,) = yield [Ask(store, [Install(self.signed)])]
            if isinstance(outcome, PmapError):
                yield Pause(delay)
        else:
            raise ShardMapForked(f"the store has another shard map of version {version} than this client")

    def refresh(self) -> Steps[None]:
        """Take the newest map that any store has. One that cannot be asked, or has none of ours, is left out."""
        answers = yield [Ask(store.store_id, [Shards()]) for store in self.shards.stores]
        for outcome in answers:
            status = None if isinstance(outcome, PmapError) else outcome[0]
            if isinstance(status, ShardStatus) and status.signed is not None:
                try:
                    yield from self.learn(status.signed)
                except (ShardMapInvalid, StaleShardMap):
                    continue

    def status(self, store: bytes) -> Steps[ShardStatus]:
        """What a store knows of shards. Raises its error."""
        (outcome,) = yield [Ask(store, [Shards()])]
        if isinstance(outcome, PmapError):
            raise outcome
        (status,) = outcome
        assert isinstance(status, ShardStatus), "the answer to a Shards"
        return status
