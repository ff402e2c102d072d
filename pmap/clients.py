"""The table of clients and their streams, as entries of the log.

Fixed-width values: an entry's length says nothing of what happened. Where an entry is written inside record n it cannot
contain the root over record n; it holds n and a zero root, "this record", and :func:`resolve` fills the root in
once the record is made (live) or replayed (restart).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pmap.entries import CLIENTS, INBOX_PLACES, STREAMS, Entries, successor
from pmap.history import History
from wire.checkpoint import POSITION_BYTES, position
from wire.crypto import HASH_BYTES, PUBLIC_KEY_BYTES
from wire.mail import Outcome

UNRESOLVED: Final = bytes(HASH_BYTES)
NOWHERE: Final = position(0, UNRESOLVED)
"""The position of who was given or has shown nothing yet."""

_client = struct.Struct(">40s40sQQQI")
_stream = struct.Struct(">40s40sQB32s32sQI")
_place = struct.Struct(">40sQI")
# Where "issued" stands in each value; the same layout helps to fill a root in without unpacking.
_CLIENT_ISSUED: Final = POSITION_BYTES
_STREAM_ISSUED: Final = POSITION_BYTES
_PLACE_ISSUED: Final = 0


def size_of(position: bytes) -> int:
    """How many records a position, or evidence, is of. 0 for none."""
    return int.from_bytes(position[:8], "big")


@dataclass(slots=True)
class ClientState:
    """What the enclave knows of one client, beside its streams. ``acked`` and ``issued`` are positions.

    ``acked``: the highest evidence that it has shown, where that was not a stream's own. ``issued``: what its last
    hello was answered with.
    """

    acked: bytes = NOWHERE
    issued: bytes = NOWHERE
    inbox_next: int = 0
    inbox_acked: int = 0
    inbox_bytes: int = 0
    streams: int = 0

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        return _client.pack(self.acked, self.issued, self.inbox_next, self.inbox_acked, self.inbox_bytes, self.streams)

    @classmethod
    def decode(cls, value: bytes) -> ClientState:
        """Our own bytes back."""
        return cls(*_client.unpack(value))


@dataclass(slots=True)
class StreamState:
    """One (client, topic): the next sequence number and what became of the last one.

    ``acked`` and ``issued`` are positions: of the evidence that the last mail showed, and of the one it was answered
    with.
    """

    acked: bytes = NOWHERE
    issued: bytes = NOWHERE
    next: int = 0
    outcome: Outcome = Outcome.EXECUTED
    mail: bytes = UNRESOLVED
    reply: bytes = UNRESOLVED
    reply_n: int = 0
    reply_index: int = 0
    """The last mail's reply in the host's outbox: the commit, and the place among its items."""

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        return _stream.pack(
            self.acked,
            self.issued,
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
        acked, issued, next_, outcome, mail, reply, reply_n, index = _stream.unpack(value)
        return cls(acked, issued, next_, _OUTCOMES[outcome], mail, reply, reply_n, index)


_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


@dataclass(slots=True)
class InboxPlace:
    """Where the host keeps one mail that the enclave sent on its own: the commit and the place in it."""

    issued: bytes
    commit: int
    index: int

    def encode(self) -> bytes:
        """Fixed-width bytes."""
        return _place.pack(self.issued, self.commit, self.index)

    @classmethod
    def decode(cls, value: bytes) -> InboxPlace:
        """Our own bytes back."""
        return cls(*_place.unpack(value))


def client_key(client: bytes) -> bytes:
    """The entry of one client (its 32-byte public key)."""
    return CLIENTS + client


def stream_key(client: bytes, topic: str) -> bytes:
    """The entry of one stream."""
    return STREAMS + client + topic.encode()


def inbox_place_key(client: bytes, number: int) -> bytes:
    """The entry that says where inbox mail ``number`` is kept."""
    return INBOX_PLACES + client + number.to_bytes(8, "big")


def shown_sizes(entries: Entries) -> dict[bytes, int]:
    """Of every client (its public key) the size of the largest evidence that it has shown."""
    live = entries.live
    shown = {key[1:]: size_of(live[key]) for key in entries.scan(CLIENTS, successor(CLIENTS))}
    for key in entries.scan(STREAMS, successor(STREAMS)):
        client = key[1 : 1 + PUBLIC_KEY_BYTES]
        shown[client] = max(shown[client], size_of(live[key]))
    return shown


def largest_shown(entries: Entries, client: bytes, state: ClientState) -> bytes:
    """The position of the largest evidence that one client has shown, its streams' included (a slow path: a scan)."""
    prefix = STREAMS + client
    shown: list[bytes] = [entries.live[key][:POSITION_BYTES] for key in entries.scan(prefix, successor(prefix))]
    return max(state.acked, *shown, key=size_of) if shown else state.acked


def positions_issued_to(entries: Entries, client: bytes) -> Iterator[bytes]:
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
    end = at + POSITION_BYTES
    if value[at:end] == position(n, UNRESOLVED):
        # Not a change: every later record says so by its number, and replay fills in the same bytes.
        entries.live[key] = value[:at] + position(n, root) + value[end:]


def resolve_all(entries: Entries, history: History) -> None:
    """After a replay: fill in every root that an entry left to its record."""
    unresolved: list[tuple[bytes, int]] = []
    for namespace, at in _ISSUED_AT.items():
        for key in entries.scan(namespace, successor(namespace)):
            issued = entries.live[key][at : at + POSITION_BYTES]
            if issued.endswith(UNRESOLVED) and issued != NOWHERE:
                unresolved.append((key, size_of(issued)))
    roots = history.roots_at({size for _, size in unresolved})
    for key, size in unresolved:
        resolve(entries, key, size, roots[size])


_ISSUED_AT: Final = {CLIENTS: _CLIENT_ISSUED, STREAMS: _STREAM_ISSUED, INBOX_PLACES: _PLACE_ISSUED}
CLIENT_ENTRY_BYTES: Final = 1 + PUBLIC_KEY_BYTES + _client.size
