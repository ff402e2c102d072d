"""The table of clients and their streams, as entries of the log.

Fixed-width values: an entry's length says nothing of what happened. Where an entry is written inside record n it cannot
contain the root over record n; it holds n and a zero root, "this record", and :func:`resolve` fills the root in
once the record is made (live) or replayed (restart).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pmap.entries import CLIENTS, INBOX_PLACES, STREAMS, Entries, successor
from pmap.history import History
from wire.crypto import HASH_BYTES, PUBLIC_KEY_BYTES
from wire.mail import Outcome

UNRESOLVED: Final = bytes(HASH_BYTES)

_position = struct.Struct(">Q32s")
_client = struct.Struct(">Q32sQ32sQQQI")
_stream = struct.Struct(">Q32sQ32sQB32s32sQI")
_place = struct.Struct(">Q32sQI")
# Where "issued" stands in each value; the same layout helps to fill a root in without unpacking.
_CLIENT_ISSUED: Final = _position.size
_STREAM_ISSUED: Final = _position.size
_PLACE_ISSUED: Final = 0


@dataclass(slots=True)
class Position:
    """A point of the history: how many records, and the root over them."""

    size: int = 0
    root: bytes = UNRESOLVED


@dataclass(slots=True)
class ClientState:
    """What the enclave knows of one client: the highest evidence it has shown and the highest it was given."""

    acked: Position = field(default_factory=Position)
    issued: Position = field(default_factory=Position)
    inbox_next: int = 0
    inbox_acked: int = 0
    inbox_bytes: int = 0
    streams: int = 0

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        acked, issued = self.acked, self.issued
        return _client.pack(
            acked.size,
            acked.root,
            issued.size,
            issued.root,
            self.inbox_next,
            self.inbox_acked,
            self.inbox_bytes,
            self.streams,
        )

    @classmethod
    def decode(cls, value: bytes) -> ClientState:
        """Our own bytes back."""
        acked, acked_root, issued, issued_root, *rest = _client.unpack(value)
        return cls(Position(acked, acked_root), Position(issued, issued_root), *rest)


@dataclass(slots=True)
class StreamState:
    """One (client, topic): the next sequence number and what became of the last one."""

    acked: Position = field(default_factory=Position)
    issued: Position = field(default_factory=Position)
    next: int = 0
    outcome: Outcome = Outcome.EXECUTED
    mail: bytes = UNRESOLVED
    reply: bytes = UNRESOLVED
    reply_n: int = 0
    reply_index: int = 0
    """The last mail's reply in the host's outbox: the commit, and the place among its items."""

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        acked, issued = self.acked, self.issued
        return _stream.pack(
            acked.size,
            acked.root,
            issued.size,
            issued.root,
            self.next,
            self.outcome,
            self.mail,
            self.reply,
            self.reply_n,
            self.reply_index,
        )

    @classmethod
    def decode(cls, value: bytes) -> StreamState:
        """Our own bytes back."""
        acked, acked_root, issued, issued_root, next_, outcome, mail, reply, reply_n, index = _stream.unpack(value)
        return cls(
            Position(acked, acked_root),
            Position(issued, issued_root),
            next_,
            Outcome(outcome),
            mail,
            reply,
            reply_n,
            index,
        )


@dataclass(slots=True)
class InboxPlace:
    """Where the host keeps one mail that the enclave sent on its own: the commit and the place in it."""

    issued: Position
    commit: int
    index: int

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        return _place.pack(self.issued.size, self.issued.root, self.commit, self.index)

    @classmethod
    def decode(cls, value: bytes) -> InboxPlace:
        """Our own bytes back."""
        size, root, commit, index = _place.unpack(value)
        return cls(Position(size, root), commit, index)


def client_key(client: bytes) -> bytes:
    """The entry of one client (its 32-byte public key)."""
    return CLIENTS + client


def stream_key(client: bytes, topic: str) -> bytes:
    """The entry of one stream."""
    return STREAMS + client + topic.encode()


def inbox_place_key(client: bytes, number: int) -> bytes:
    """The entry that says where inbox mail ``number`` is kept."""
    return INBOX_PLACES + client + number.to_bytes(8, "big")


def clients(entries: Entries) -> Iterator[tuple[bytes, ClientState]]:
    """Every client's public key and state."""
    for key in entries.scan(CLIENTS, successor(CLIENTS)):
        yield key[1:], ClientState.decode(entries.live[key])


def positions_issued_to(entries: Entries, client: bytes) -> Iterator[Position]:
    """Every position that the table remembers having issued to this client (a slow path: a scan)."""
    for prefix in (STREAMS + client, INBOX_PLACES + client):
        for key in entries.scan(prefix, successor(prefix)):
            value = entries.live[key]
            if prefix[:1] == STREAMS:
                stream = StreamState.decode(value)
                yield stream.acked
                yield stream.issued
            else:
                yield InboxPlace.decode(value).issued


def resolve(entries: Entries, key: bytes, n: int, root: bytes) -> None:
    """Fill in the root of record ``n``, now known, where the entry says "this record"."""
    value = entries.live.get(key)
    if value is None:
        return
    at = _ISSUED_AT[key[:1]]
    size, known = _position.unpack_from(value, at)
    if size == n and known == UNRESOLVED:
        # Not a change: every later record says so by its number, and replay fills in the same bytes.
        entries.live[key] = value[: at + 8] + root + value[at + _position.size :]


def resolve_all(entries: Entries, history: History) -> None:
    """After a replay: fill in every root that an entry left to its record."""
    unresolved: list[tuple[bytes, int]] = []
    for namespace, at in _ISSUED_AT.items():
        for key in entries.scan(namespace, successor(namespace)):
            size, root = _position.unpack_from(entries.live[key], at)
            if size and root == UNRESOLVED:
                unresolved.append((key, size))
    roots = history.roots_at({size for _, size in unresolved})
    for key, size in unresolved:
        resolve(entries, key, size, roots[size])


_ISSUED_AT: Final = {CLIENTS: _CLIENT_ISSUED, STREAMS: _STREAM_ISSUED, INBOX_PLACES: _PLACE_ISSUED}
CLIENT_ENTRY_BYTES: Final = 1 + PUBLIC_KEY_BYTES + _client.size
