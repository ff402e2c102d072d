"""The shard map: which store owns which partition of the keys. Signed by an owner, numbered, decoded strictly.

A key belongs to one of a fixed number of partitions, by its hash, for ever. The map gives each partition an owner
among the stores, and says of at most one :class:`Move` how far it is. :func:`rendezvous` chooses the owners where
nothing else speaks: with one store more, only what that store gets changes its place.

::

    map  = [body, signature(64)]                     Ed25519 by the owner over "pmap/1 shard map" ‖ body
    body = [owner key(32), cluster(16), version, [[store id(16), checkpoint key(32), url], ...], owners, move or nil]
    move = [source, target, partitions, mover(32), [entries, digest(32)] or nil]

``owners`` has two bytes for each partition, its store's place; ``partitions`` is a set (:func:`encode_partitions`).
Source of the hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
"""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

from wire.checkpoint import STORE_ID_BYTES
from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, Unauthentic, sha256, verify
from wire.errors import InvalidInput, Malformed, ShardMapInvalid
from wire.limits import MAX_PARTITIONS, MAX_SHARD_MAP_BYTES, MAX_SHARD_URL_BYTES, MAX_SHARDS
from wire.mail import MAX_COUNTER

CLUSTER_BYTES: Final = 16
FIRST_VERSION: Final = 1
_HEAD: Final = "pmap-shards:1:"
_SIGNED: Final = b"pmap/1 shard map"
_owner = struct.Struct(">H")
_MAX_TEXT_CHARACTERS: Final = len(_HEAD) + 4 * (MAX_SHARD_MAP_BYTES // 3 + 1)


# --- partitions ------------------------------------------------------------------------------------------


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, from 0."""
    digest = hashlib.sha256(b"pmap/1 partition" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % partitions


def rendezvous(partition: int, store_ids: Sequence[bytes]) -> int:
    """The place of the store with the highest hash for this partition: each store's is drawn independently."""
    tail = partition.to_bytes(4, "big")
    return max(range(len(store_ids)), key=lambda place: sha256(b"pmap/1 rendezvous" + store_ids[place] + tail))


def encode_partitions(members: Iterable[int], partitions: int) -> bytes:
    """A set of partitions: bit p % 8 (the lowest is 0) of byte p // 8 for each member p."""
    bits = 0
    for member in members:
        bits |= 1 << member
    return bits.to_bytes((partitions + 7) // 8, "little")


def decode_partitions(encoded: bytes, partitions: int) -> list[int]:
    """The members in order. Raises :class:`Malformed`."""
    if len(encoded) != (partitions + 7) // 8:
        raise Malformed(f"a set of {partitions} partitions has another length")
    bits = int.from_bytes(encoded, "little")
    if bits >> partitions:
        raise Malformed("a partition that there is not")
    return [partition for partition in range(partitions) if bits >> partition & 1]


def arrival_digest(digest: bytes, key: str, value: bytes) -> bytes:
    """The digest over entries in the order of their keys, one entry on: it begins with 32 zero bytes."""
    encoded = key.encode()
    return sha256(b"pmap/1 arrival" + digest + len(encoded).to_bytes(4, "big") + encoded + value)


# --- the map ---------------------------------------------------------------------------------------------


class ShardStore(NamedTuple):
    """A store: id (16 bytes), the key of its checkpoints (32 bytes), and where its host listens."""

    store_id: bytes
    checkpoint_key: bytes
    url: str


class Arrival(NamedTuple):
    """What has arrived at a move's target: the number of entries, and the digest over them."""

    entries: int
    digest: bytes


class Move(NamedTuple):
    """Partitions on their way between two stores (places in the map).

    Without ``arrived`` the source still owns them, takes no writes for them, and ``mover`` (a client's public key at
    the target) copies them. With it the target owns them, if it holds exactly these entries.
    """

    source: int
    target: int
    partitions: tuple[int, ...]
    mover: bytes
    arrived: Arrival | None = None


@dataclass(frozen=True)
class ShardMap:
    """See the module's docstring. Raises :class:`Malformed` for a map that contradicts itself."""

    owner_key: bytes
    cluster: bytes
    version: int
    stores: tuple[ShardStore, ...]
    owners: tuple[int, ...]
    move: Move | None = None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def found(cls, owner_key: bytes, cluster: bytes, stores: Sequence[ShardStore], partitions: int) -> Self:
        """The first map, its owners by :func:`rendezvous`."""
        ids = [store.store_id for store in stores]
        owners = tuple(rendezvous(partition, ids) for partition in range(partitions))
        return cls(owner_key, cluster, FIRST_VERSION, tuple(stores), owners)

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.owners)

    @property
    def identities(self) -> list[tuple[bytes, bytes]]:
        """Of each store what never changes: id and checkpoint key."""
        return [(store.store_id, store.checkpoint_key) for store in self.stores]

    @cached_property
    def owned(self) -> tuple[tuple[int, ...], ...]:
        """Of each store its partitions, in order."""
        owned: list[list[int]] = [[] for _ in self.stores]
        for partition, owner in enumerate(self.owners):
            owned[owner].append(partition)
        return tuple(map(tuple, owned))

    def owner_of(self, key: str) -> int:
        """The place of the store that owns this key."""
        return self.owners[partition_of(key, len(self.owners))]

    def place_of(self, store_id: bytes) -> int | None:
        """The place of a store; None if it is not in the map."""
        return next((place for place, store in enumerate(self.stores) if store.store_id == store_id), None)

    def next(self, *, stores: Sequence[ShardStore] | None = None, move: Move | None = None) -> ShardMap:
        """The map after this one, in which ``move`` begins, and a move that was under way is given up."""
        return replace(
            self, version=self.version + 1, stores=self.stores if stores is None else tuple(stores), move=move
        )

    def arrive(self, arrived: Arrival) -> ShardMap:
        """The map after this one, in which the target of this one's move owns what was moved."""
        move = self.move
        assert move is not None and move.arrived is None, "nothing is on its way"
        moved = set(move.partitions)
        owners = tuple(move.target if partition in moved else owner for partition, owner in enumerate(self.owners))
        return replace(self, version=self.version + 1, owners=owners, move=move._replace(arrived=arrived))


def _check(shards: ShardMap) -> None:
    stores, move = len(shards.stores), shards.move
    if len(shards.owner_key) != PUBLIC_KEY_BYTES or len(shards.cluster) != CLUSTER_BYTES:
        raise Malformed("a shard map's owner or cluster has another length")
    if not FIRST_VERSION <= shards.version <= MAX_COUNTER:
        raise Malformed("a shard map's version is out of range")
    if not 1 <= stores <= MAX_SHARDS or not 1 <= shards.partitions <= MAX_PARTITIONS:
        raise Malformed(f"a shard map has 1 to {MAX_SHARDS} stores and 1 to {MAX_PARTITIONS} partitions")
    if len({store.store_id for store in shards.stores}) != stores:
        raise Malformed("a store stands in the map twice")
    for store in shards.stores:
        if len(store.store_id) != STORE_ID_BYTES or len(store.checkpoint_key) != PUBLIC_KEY_BYTES:
            raise Malformed("a store's id or key has another length")
        if not 0 < len(store.url.encode(errors="replace")) <= MAX_SHARD_URL_BYTES or not store.url.isprintable():
            raise Malformed(f"a store's address is printable text of up to {MAX_SHARD_URL_BYTES} bytes")
    if not all(0 <= owner < stores for owner in shards.owners):
        raise Malformed("a partition belongs to a store that is not in the map")
    if move is not None:
        _check_move(shards, move)


def _check_move(shards: ShardMap, move: Move) -> None:
    stores = len(shards.stores)
    if not (0 <= move.source < stores and 0 <= move.target < stores) or move.source == move.target:
        raise Malformed("a move is from one store of the map to another")
    if not move.partitions or list(move.partitions) != sorted(set(move.partitions)):
        raise Malformed("a move's partitions are a set, and not an empty one")
    if len(move.mover) != PUBLIC_KEY_BYTES:
        raise Malformed("a mover is a client's public key")
    owner = move.source if move.arrived is None else move.target
    if not all(partition < shards.partitions and shards.owners[partition] == owner for partition in move.partitions):
        raise Malformed("a move's partitions do not belong to the store that should own them")
    if move.arrived is not None:
        entries, digest = move.arrived
        if not 0 <= entries <= MAX_COUNTER or len(digest) != HASH_BYTES:
            raise Malformed("what a move says to have arrived is out of range")


# --- signing and encoding --------------------------------------------------------------------------------


def sign_shard_map(key: SigningKey, shards: ShardMap) -> bytes:
    """The signed map. Raises :class:`InvalidInput` if it names another owner."""
    if key.public != shards.owner_key:
        raise InvalidInput("this is not the key of the shard map's owner")
    body = _encode(shards)
    return pack([body, key.sign(_SIGNED + body)])


def open_shard_map(untrusted: bytes, owner_key: bytes | None = None) -> ShardMap:
    """Check and decode a map. ``owner_key``: who must have signed it; None: whoever it names.

    Raises :class:`ShardMapInvalid`.
    """
    try:
        body, signature = expect(unpack(untrusted, MAX_SHARD_MAP_BYTES), bytes, bytes)
        if len(signature) != SIGNATURE_BYTES:
            raise Malformed("a signature has another length")
        if owner_key is not None:
            # Before anything of it is looked at.
            verify(owner_key, signature, _SIGNED + body)
        shards = _decode(body)
        if owner_key is None:
            verify(shards.owner_key, signature, _SIGNED + body)
        elif shards.owner_key != owner_key:
            raise Malformed("it names another owner than the one who signed it")
    except Unauthentic as error:
        raise ShardMapInvalid("the shard map is not signed by its owner") from error
    except Malformed as error:
        raise ShardMapInvalid(f"not a shard map: {error}") from error
    return shards


def shard_map_text(signed: bytes) -> str:
    """A signed map as one line of text: for files, and to be handed on."""
    return _HEAD + urlsafe_b64encode(signed).rstrip(b"=").decode()


def parse_shard_map_text(untrusted: str) -> bytes:
    """Undo :func:`shard_map_text`; white space around it is ignored. Raises :class:`ShardMapInvalid`."""
    text = untrusted.strip()
    if len(text) > _MAX_TEXT_CHARACTERS or not text.startswith(_HEAD):
        raise ShardMapInvalid(f"not a shard map: its text begins with {_HEAD}")
    try:
        signed = urlsafe_b64decode(text.removeprefix(_HEAD) + "==")  # what is too much of it is ignored
    except (Base64Error, ValueError) as error:
        raise ShardMapInvalid("not a shard map: a part of its text is missing") from error
    if shard_map_text(signed) != text:
        raise ShardMapInvalid("not a shard map: it is spelled in another way than it should be")
    return signed


def _encode(shards: ShardMap) -> bytes:
    move = shards.move
    moving = None
    if move is not None:
        partitions = encode_partitions(move.partitions, shards.partitions)
        arrived = None if move.arrived is None else list(move.arrived)
        moving = [move.source, move.target, partitions, move.mover, arrived]
    owners = b"".join(map(_owner.pack, shards.owners))
    return pack(
        [shards.owner_key, shards.cluster, shards.version, [list(store) for store in shards.stores], owners, moving]
    )


def _decode(body: bytes) -> ShardMap:
    fields = unpack(body, MAX_SHARD_MAP_BYTES, max_items=MAX_SHARDS, max_arrays=MAX_SHARDS + 4)
    key, cluster, version, stores, owners, move = expect(fields, bytes, bytes, int, list, bytes, object)
    if len(owners) % _owner.size:
        raise Malformed("a partition with half an owner")
    count = len(owners) // _owner.size
    decoded = tuple(ShardStore(*expect(store, bytes, bytes, str)) for store in stores)
    places = struct.unpack(f">{count}H", owners)
    return ShardMap(key, cluster, version, decoded, places, None if move is None else _decode_move(move, count))


def _decode_move(fields: Any, partitions: int) -> Move:
    source, target, members, mover, arrived = expect(fields, int, int, bytes, bytes, object)
    arrival = None if arrived is None else Arrival(*expect(arrived, int, bytes))
    return Move(source, target, tuple(decode_partitions(members, partitions)), mover, arrival)
