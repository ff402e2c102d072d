"""What one store of several knows and enforces: which partitions it owns, and how they come and go.

A store takes part once it has a shard map (:mod:`wire.shard_map`). The owner's signature on each map is the only
authority: no host and no client can move anything. The rules, all of them:

1. The first map is of version 1, or gives this store nothing. If there are entries already, it gives it everything.
2. Each later map is of the same owner, cluster and number of partitions, and of a higher version. Stores keep their
   places; new ones come behind them. The same map again changes nothing.
3. What the store loses has been on its way out by the map before: it took no writes since.
4. What the store gains has been on its way in by the map before, and the new one says exactly what has arrived.
5. A partition is read where it is owned, and written where it is owned and not on its way out.
6. Only the mover that the map names brings entries, in the order of their keys, each once.
7. Entries of a partition that is lost, or of a move that was given up, are never served, and are removed.

So an old map, or a step of an old move, is refused by its version, and a client that does not know of a move by
rule 5, with the version that tells it so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pmap.enclave import Rejected
from pmap.entries import SHARDS, Entries
from pmap.map import PersistentMap
from wire.codec import pack, unpack_authentic
from wire.crypto import HASH_BYTES
from wire.errors import ShardMapInvalid
from wire.kv import Arrived, ShardStatus
from wire.shard_map import (
    FIRST_VERSION,
    Arrival,
    Move,
    ShardMap,
    arrival_digest,
    decode_partitions,
    open_shard_map,
    partition_of,
)
from wire.shard_refusals import map_refused_text, moving_text, not_owned_text

_MAP: Final = SHARDS + b"map"
_ARRIVED: Final = SHARDS + b"arrived"
_RESIDUE: Final = SHARDS + b"residue"

_FOREIGN: Final = 0
_LEAVING: Final = 1
_OWNED: Final = 2

Keeps = Callable[[str], bool]
"""Whether a scan is to show a key."""


class _View(NamedTuple):
    """A map as this store sees it. ``raw``: the bytes that it was decoded from. ``roles``: of each partition."""

    raw: bytes
    shards: ShardMap
    place: int | None
    roles: bytes

    def incoming(self) -> Move | None:
        """The move that brings something here, and is not through."""
        move = self.shards.move
        return move if move is not None and move.arrived is None and move.target == self.place else None

    def owned(self) -> set[int]:
        """The partitions that are this store's."""
        return set() if self.place is None else set(self.shards.owned[self.place])


class _Residue(NamedTuple):
    """Entries to be removed: how many there are, and the key at which to go on looking (None: there are none)."""

    entries: int
    cursor: str | None


class Shards:
    """One enclave's part in a shard map. Writes belong to the open transaction, and go with it if it aborts."""

    def __init__(self, entries: Entries, keys: PersistentMap, store_id: bytes, owner_key: bytes | None) -> None:
        """``owner_key``: whose maps are taken; None: those of whoever signed the first one."""
        self._entries = entries
        self._keys = keys
        self._store_id = store_id
        self._owner_key = owner_key
        self._seen: _View | None = None

    # --- rule 5: what may be read and written ---

    def check_read(self, key: str) -> None:
        """Raises :class:`Rejected` for a key that this store does not own."""
        view = self._view()
        if view is not None:
            partition = partition_of(key, len(view.roles))
            if view.roles[partition] == _FOREIGN:
                raise Rejected(not_owned_text(partition, view.shards.version))

    def check_write(self, key: str) -> None:
        """Raises :class:`Rejected` for a key that this store does not own, or that is on its way out."""
        view = self._view()
        if view is not None:
            partition = partition_of(key, len(view.roles))
            role = view.roles[partition]
            if role != _OWNED:
                text = not_owned_text if role == _FOREIGN else moving_text
                raise Rejected(text(partition, view.shards.version))

    def keeps(self) -> Keeps | None:
        """What a plain scan shows: all that the store owns. None: everything that is in the map."""
        view = self._view()
        return None if view is None or self._is_clean() else _keeps(view.roles)

    def keeps_of(self, partitions: bytes) -> Keeps | None:
        """What a scan of these partitions shows. Raises :class:`Rejected` if one of them is not owned."""
        view = self._view()
        if view is None:
            raise Rejected(not_owned_text(0, 0))
        wanted = decode_partitions(partitions, len(view.roles))
        for partition in wanted:
            if view.roles[partition] == _FOREIGN:
                raise Rejected(not_owned_text(partition, view.shards.version))
        if len(wanted) == len(view.owned()) and self._is_clean():
            return None
        flags = bytearray(len(view.roles))
        for partition in wanted:
            flags[partition] = _OWNED
        return _keeps(bytes(flags))

    def foreign_entries(self) -> int:
        """Entries that are in the map and not owned: on their way in, or to be removed."""
        return self._residue().entries + self._arrived().entries

    def _is_clean(self) -> bool:
        return self._residue().cursor is None and not self._arrived().entries

    def status(self) -> ShardStatus:
        """For :class:`wire.kv.Shards`."""
        arrived = self._arrived() if _ARRIVED in self._entries.live else None
        return ShardStatus(self._entries.live.get(_MAP), self._residue().cursor is not None, arrived)

    # --- rules 1 to 4: the next map ---

    def install(self, untrusted_signed: bytes) -> bool:
        """Take the next map; False if it is the present one. Raises :class:`Rejected`, and nothing changes then."""
        view = self._view()
        try:
            new = open_shard_map(untrusted_signed, self._owner_key if view is None else view.shards.owner_key)
        except ShardMapInvalid as error:
            raise self._refused(str(error)) from error
        if view is not None and new == view.shards:
            return False
        after = _view_of(untrusted_signed, new, self._store_id)
        if view is None:
            self._check_first(after)
        else:
            self._check_next(view, after)
            self._leave_behind(view, after)
        self._entries.put(_MAP, untrusted_signed)
        if after.incoming() is not None:
            self._put_arrived(Arrived(new.version, None, 0, bytes(HASH_BYTES)))
        return True

    def _check_first(self, after: _View) -> None:
        owned = after.owned()
        if owned and after.shards.version != FIRST_VERSION:
            raise self._refused("a new store owns nothing until it is moved there")
        if len(self._keys) and len(owned) != after.shards.partitions:
            raise self._refused("this store has entries already: the first map has to give it all partitions")

    def _check_next(self, view: _View, after: _View) -> None:
        old, new = view.shards, after.shards
        if (new.cluster, new.partitions) != (old.cluster, old.partitions):
            raise self._refused("this store belongs to another cluster")
        if new.version < old.version:
            raise self._refused(f"map {new.version} is older")
        if new.version == old.version:
            raise self._refused("another map of this version")
        if new.identities[: len(old.identities)] != old.identities:
            raise self._refused("a store has changed its place in the map")
        before, now = view.owned(), after.owned()
        if before != now:
            self._check_moved(view, new, gained=now - before, lost=before - now)

    def _check_moved(self, view: _View, new: ShardMap, *, gained: set[int], lost: set[int]) -> None:
        """Rules 3 and 4: the new map is the end of the very move that the present one begins."""
        move = view.shards.move
        if move is None or move.arrived is not None or gained | lost != set(move.partitions) or (gained and lost):
            raise self._refused("it takes or gives partitions that were not on their way")
        if new.move is None or new.move.arrived is None or new.move._replace(arrived=None) != move:
            raise self._refused("it takes or gives partitions without saying what has arrived")
        arrived = self._arrived()
        if gained and new.move.arrived != Arrival(arrived.entries, arrived.digest):
            raise self._refused("what it says to have arrived is not what is here")

    def _leave_behind(self, view: _View, after: _View) -> None:
        """Rule 7: note what is foreign from now on."""
        left = 0
        if lost := view.owned() - after.owned():
            assert lost and after.shards.move is not None and after.shards.move.arrived is not None, "rule 3"
            left = after.shards.move.arrived.entries
        if view.incoming() is not None:
            if not after.owned() - view.owned():
                left = self._arrived().entries
            self._entries.delete(_ARRIVED)
        if lost or left:
            self._put_residue(_Residue(self._residue().entries + left, ""))

    # --- rule 6: what a move brings ---

    def take(self, sender: str, version: int, entries: Sequence[tuple[str, bytes]]) -> Arrived:
        """Entries of the move that the map of this version begins. Raises :class:`Rejected`, :class:`MapFull`."""
        view = self._view()
        move = None if view is None else view.incoming()
        if view is None or move is None or view.shards.version != version:
            raise self._refused("nothing is on its way here by that map")
        if sender != move.mover.hex():
            raise self._refused("somebody else brings what is on its way here")
        if self._residue().cursor is not None:
            raise self._refused("what was left behind is to be removed first")
        arrived = self._arrived()
        last, digest, coming = arrived.last, arrived.digest, set(move.partitions)
        for key, value in entries:
            if last is not None and key <= last:
                raise self._refused("entries come in the order of their keys")
            if partition_of(key, len(view.roles)) not in coming:
                raise self._refused("an entry of another partition than those on their way here")
            last, digest = key, arrival_digest(digest, key, value)
            self._keys[key] = value
        return self._put_arrived(Arrived(version, last, arrived.entries + len(entries), digest))

    # --- rule 7: what was left behind ---

    def purge(self, limit: int) -> bool:
        """Look at ``limit`` keys and remove those that are no longer this store's. Is there anything left to do?"""
        view, residue = self._view(), self._residue()
        if view is None or residue.cursor is None:
            return False
        roles, partitions = view.roles, len(view.roles)
        keys = [key for key, _ in self._keys.range(residue.cursor, None, limit=limit + 1)]
        doomed = [key for key in keys[:limit] if roles[partition_of(key, partitions)] == _FOREIGN]
        for key in doomed:
            del self._keys[key]
        if len(keys) <= limit:
            self._put_residue(_Residue(0, None))
            return False
        self._put_residue(_Residue(max(0, residue.entries - len(doomed)), keys[limit]))
        return True

    # --- entries ---

    def _view(self) -> _View | None:
        raw = self._entries.live.get(_MAP)
        if raw is None:
            return None
        # Compared as objects: the entries give out the very bytes that were put, also after an abort.
        if self._seen is None or self._seen.raw is not raw:
            self._seen = _view_of(raw, open_shard_map(raw), self._store_id)
        return self._seen

    def _arrived(self) -> Arrived:
        raw = self._entries.live.get(_ARRIVED)
        return Arrived(0, None, 0, bytes(HASH_BYTES)) if raw is None else Arrived(*unpack_authentic(raw))

    def _put_arrived(self, arrived: Arrived) -> Arrived:
        self._entries.put(_ARRIVED, pack(list(arrived)))
        return arrived

    def _residue(self) -> _Residue:
        raw = self._entries.live.get(_RESIDUE)
        return _Residue(0, None) if raw is None else _Residue(*unpack_authentic(raw))

    def _put_residue(self, residue: _Residue) -> None:
        self._entries.put(_RESIDUE, pack(list(residue)))

    def _refused(self, reason: str) -> Rejected:
        view = self._view()
        return Rejected(map_refused_text(reason, 0 if view is None else view.shards.version))


def _view_of(raw: bytes, shards: ShardMap, store_id: bytes) -> _View:
    place, move = shards.place_of(store_id), shards.move
    roles = bytearray(shards.partitions)
    if place is not None:
        for partition in shards.owned[place]:
            roles[partition] = _OWNED
        if move is not None and move.arrived is None and move.source == place:
            for partition in move.partitions:
                roles[partition] = _LEAVING
    return _View(raw, shards, place, bytes(roles))


def _keeps(roles: bytes) -> Keeps:
    partitions = len(roles)
    return lambda key: roles[partition_of(key, partitions)] != _FOREIGN
