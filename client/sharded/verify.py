"""Whether a store holds what the map says, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.sharded.mover import Mover
from wire.shard_map import open_shard_map, partition_of


@dataclass
class Found:
    """What was found in one store."""

    entries: int = 0
    problems: list[str] = field(default_factory=list)


def verify_store(mover: Mover, place: int) -> Found:
    """Read all that the store at this place owns, and compare. Raises its error."""
    shards, found = mover.shards, Found()
    status = mover.status(place)
    if status.signed is None:
        found.problems.append("it has no shard map")
        return found
    its = open_shard_map(status.signed, shards.owner_key)
    if its != shards:
        found.problems.append(f"it has shard map {its.version}, not {shards.version}")
    if status.residue:
        found.problems.append("it has entries that are no longer its own")
    owned = set(its.owned[place]) if place < len(its.stores) else set()
    last: str | None = None
    for page in mover.pages(place, owned):
        for key, _ in page:
            if partition_of(key, its.partitions) not in owned or (last is not None and key <= last):
                found.problems.append(f"the entry {key!r} is out of place")
            last = key
            found.entries += 1
    usage = mover.usage(place)
    if usage.entries != found.entries:
        found.problems.append(f"it counts {usage.entries} entries, and {found.entries} were read")
    return found
