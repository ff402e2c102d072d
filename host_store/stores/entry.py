"""The entries of the log: their bytes. Entry number p is the object ``log/p``; it is created once and never changed.

::

    entry   = length of header (4) ‖ header ‖ record ‖ message ‖ message ...
    header  = msgpack [version, kind, host, nonce, n, trim, leaf, length of record, keyring or nil,
                       [index, address, length of message, ...], [n, index, ...]]

Three kinds: a **commit** is one append of :class:`host_store.store.Store`, whole; a **keyring** replaces the keyring;
a **claim** says that from here on ``host`` is the one who writes. The first commit brings the first keyring along.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from host_store.arguments import Commit, check_keyring
from host_store.store import ADDRESS_BYTES, LEAF_BYTES
from wire.codec import expect, pack, unpack
from wire.errors import CorruptedStore, Malformed, UnsupportedVersion
from wire.limits import MAX_KEYRING_BYTES, MAX_RECORD_BYTES, MAX_TREE_SIZE

VERSION: Final = 1
NONCE_BYTES: Final = 16
MAX_HEADER_BYTES: Final = 256 << 20
"""Largest header: a commit with millions of messages and drops."""
MAX_HOST_CHARACTERS: Final = 256  # characters

_LENGTH_BYTES: Final = 4
_INDEXES: Final = 1 << 32


class Kind(IntEnum):
    """What an entry is."""

    CLAIM = 0
    COMMIT = 1
    KEYRING = 2


class Message(NamedTuple):
    """Where in its entry one message of a commit is."""

    slot: int
    address: bytes
    offset: int
    length: int


class Entry(NamedTuple):
    """An entry without the bytes that it carries, but for a keyring. ``size``: bytes of all of it."""

    kind: Kind
    host: str
    nonce: bytes
    n: int
    trim: int
    leaf: bytes
    record_offset: int
    record_length: int
    keyring: bytes | None
    messages: list[Message]
    drops: list[tuple[int, int]]
    size: int


def encode_commit(host: str, commit: Commit, keyring: bytes | None = None) -> tuple[Entry, bytes]:
    """A commit's entry and its bytes. Raises :class:`LimitExceeded` for a keyring that is too long."""
    if keyring is not None:
        check_keyring(keyring)
    record, outbox = commit.record, commit.outbox
    flat = [field for item in outbox for field in (item.index, item.address, len(item.message))]
    dropped = [field for place in commit.drops for field in place]
    numbers = (commit.n, commit.trim, commit.leaf)
    header = pack([VERSION, Kind.COMMIT, host, b"", *numbers, len(record), keyring, flat, dropped])
    data = b"".join([len(header).to_bytes(_LENGTH_BYTES, "big"), header, record, *[item.message for item in outbox]])
    begins = _LENGTH_BYTES + len(header)
    offset = begins + len(record)
    messages = []
    for item in outbox:
        messages.append(Message(item.index, item.address, offset, len(item.message)))
        offset += len(item.message)
    drops = list(commit.drops)
    return Entry(Kind.COMMIT, host, b"", *numbers, begins, len(record), keyring, messages, drops, offset), data


def encode_claim(host: str, nonce: bytes) -> bytes:
    """A claim's entry; ``nonce`` is that of whoever makes it."""
    return _bare(Kind.CLAIM, host, nonce, None)


def encode_keyring(host: str, nonce: bytes, keyring: bytes) -> bytes:
    """A keyring's entry. Raises :class:`LimitExceeded`."""
    check_keyring(keyring)
    return _bare(Kind.KEYRING, host, nonce, keyring)


def _bare(kind: Kind, host: str, nonce: bytes, keyring: bytes | None) -> bytes:
    header = pack([VERSION, kind, host, nonce, 0, 0, b"", 0, keyring, [], []])
    return len(header).to_bytes(_LENGTH_BYTES, "big") + header


def decode_entry(data: bytes, where: str) -> Entry:
    """Read an entry. ``where``: what it is called in errors.

    Raises:
        UnsupportedVersion: another version wrote it.
        CorruptedStore: not an entry.
    """
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "big")
        header = memoryview(data)[_LENGTH_BYTES : _LENGTH_BYTES + length]
        if len(header) != length:
            raise Malformed("it is cut off")
        fields = unpack(bytes(header), MAX_HEADER_BYTES, max_items=MAX_HEADER_BYTES, max_arrays=3)
        if type(fields) is list and fields and type(fields[0]) is int and fields[0] != VERSION:
            raise UnsupportedVersion(
                f"{where} was written in version {fields[0]} of the log's format, and this program knows {VERSION}"
            )
        return _entry(fields, _LENGTH_BYTES + length, len(data))
    except Malformed as error:
        raise CorruptedStore(f"{where} is damaged: {error}") from error


def _entry(fields: object, body: int, size: int) -> Entry:
    _version, kind, host, nonce, n, trim, leaf, record_length, keyring, flat, dropped = expect(
        fields, int, int, str, bytes, int, int, bytes, int, object, list, list
    )
    if kind not in list(Kind) or not (keyring is None or type(keyring) is bytes) or len(flat) % 3 or len(dropped) % 2:
        raise Malformed("its header is none")
    offset = body + record_length
    messages = []
    for at in range(0, len(flat), 3):
        index, address, length = expect(flat[at : at + 3], int, bytes, int)
        if not 0 <= index < _INDEXES or len(address) != ADDRESS_BYTES or length < 0:
            raise Malformed("a message of it is out of range")
        messages.append(Message(index, address, offset, length))
        offset += length
    if offset != size:
        raise Malformed(f"it has {size} bytes where its header says {offset}")
    if len({message.slot for message in messages}) != len(messages) or any(type(field) is not int for field in dropped):
        raise Malformed("two messages of it are at one place, or what it drops is no place")
    drops = [(dropped[at], dropped[at + 1]) for at in range(0, len(dropped), 2)]
    entry = Entry(Kind(kind), host, nonce, n, trim, leaf, body, record_length, keyring, messages, drops, size)
    _check_kind(entry)
    return entry


def _check_kind(entry: Entry) -> None:
    """Raises :class:`Malformed` for fields that an entry of its kind has not."""
    if len(entry.host) > MAX_HOST_CHARACTERS or not entry.host.isprintable():
        raise Malformed("its host's name is no name")
    if entry.keyring is not None and len(entry.keyring) > MAX_KEYRING_BYTES:
        raise Malformed("its keyring is too long")
    if entry.kind is Kind.COMMIT:
        whole = 1 <= entry.n <= MAX_TREE_SIZE and 0 <= entry.trim <= entry.n and entry.nonce == b""
        whole = whole and len(entry.leaf) == LEAF_BYTES and 0 <= entry.record_length <= MAX_RECORD_BYTES
    else:
        bare = (entry.n, entry.trim, entry.leaf, entry.record_length) == (0, 0, b"", 0)
        whole = bare and len(entry.nonce) == NONCE_BYTES and not entry.messages and not entry.drops
        whole = whole and (entry.keyring is not None) == (entry.kind is Kind.KEYRING)
    if not whole:
        raise Malformed("its header is out of range")
