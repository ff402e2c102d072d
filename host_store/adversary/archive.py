"""Everything that a host ever saw, kept: records, keyrings, outbox messages, and every message on its way.

All of it is ciphertext under some key and nonce. :class:`NonceLedger` notes which, over every host of the process,
so that a pair that is used for two plaintexts is found whatever restarts, forks and rollbacks led to it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wire.crypto import KEY_BYTES, SALT_BYTES, sha256
from wire.errors import PmapError
from wire.mail import EnvelopeKind, envelope_kind, session_of
from wire.record import EPOCH_BYTES, HEADER_BYTES, decode_header

_HELLO_HEADER_BYTES: Final = 2 + EPOCH_BYTES + 16
_MAIL_HEADER_BYTES: Final = 2 + 16
_KEYRING_PREFIX_BYTES: Final = 12


class Direction(Enum):
    """Which way a message went."""

    REQUEST = "request"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Message:
    """One message between a client and the enclave, as the host saw it.

    ``call``: ``deliver``, ``poll``, ``attestation`` or ``consistency``. ``host``: the number of the host it passed.
    """

    number: int
    host: int
    client: str
    call: str
    direction: Direction
    data: bytes

    @property
    def kind(self) -> EnvelopeKind | None:
        """Which envelope it is; None for what is none."""
        try:
            return envelope_kind(self.data)
        except PmapError:
            return None


class NonceLedger:
    """Which key and nonce encrypted what. ``reused`` names every pair that was used for two plaintexts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[bytes, bytes] = {}
        self.reused: list[str] = []

    def __len__(self) -> int:
        return len(self._seen)

    def note_record(self, record: bytes) -> None:
        """Key: the store's, of this epoch; nonce: the record's number."""
        header = decode_header(record)
        place = header.store_id + header.epoch + header.n.to_bytes(8, "big")
        # The header is the AAD: it counts as well, because one nonce authenticates one message only.
        self._note("record", place, record)

    def note_keyring(self, keyring: bytes) -> None:
        """Key: drawn for this one blob, by its salt."""
        self._note("keyring", keyring[: _KEYRING_PREFIX_BYTES + SALT_BYTES], keyring)

    def note_envelope(self, envelope: bytes) -> None:
        """Key of a hello: its encapsulation; of a mail or reply: the session's, by the salt."""
        try:
            kind = envelope_kind(envelope)
        except PmapError:
            return  # not ours: an adversary's own invention
        at = _HELLO_HEADER_BYTES if kind is EnvelopeKind.HELLO else _MAIL_HEADER_BYTES
        self._note(kind.name, session_of(envelope) + envelope[at : at + KEY_BYTES], envelope)

    def _note(self, label: str, place: bytes, ciphertext: bytes) -> None:
        name, digest = sha256(label.encode() + place), sha256(ciphertext)
        with self._lock:
            if self._seen.setdefault(name, digest) != digest:
                self.reused.append(f"{label} {place.hex()}")


EVERY_HOST: Final = NonceLedger()
"""Of this process, since it began."""


class Archive:
    """What the hosts of one world saw. Never forgets."""

    def __init__(self, ledger: NonceLedger = EVERY_HOST) -> None:
        self._lock = threading.Lock()
        self._ledger = ledger
        self.records: list[bytes] = []
        self.keyrings: list[bytes] = []
        self.outbox: list[bytes] = []
        self.messages: list[Message] = []

    def keep_record(self, record: bytes) -> None:
        """A record was stored."""
        self._ledger.note_record(record)
        with self._lock:
            self.records.append(record)

    def keep_keyring(self, keyring: bytes) -> None:
        """A sealed keyring was stored."""
        self._ledger.note_keyring(keyring)
        with self._lock:
            self.keyrings.append(keyring)

    def keep_outbox(self, message: bytes) -> None:
        """An encrypted reply or mail was put into the outbox."""
        self._ledger.note_envelope(message)
        with self._lock:
            self.outbox.append(message)

    def keep_message(
        self, host: int, client: str, call: str, direction: Direction, data: bytes, *, genuine: bool = True
    ) -> Message:
        """A message passed. ``genuine``: as its sender made it, not as the host altered it."""
        if genuine and call in ("deliver", "poll"):
            self._ledger.note_envelope(data)
        with self._lock:
            message = Message(len(self.messages), host, client, call, direction, data)
            self.messages.append(message)
        return message

    def find(
        self,
        client: str | None = None,
        direction: Direction | None = None,
        kind: EnvelopeKind | None = None,
        call: str = "deliver",
    ) -> list[Message]:
        """The messages that fit, oldest first."""
        with self._lock:
            messages = list(self.messages)
        return [
            message
            for message in messages
            if message.call == call
            and client in (None, message.client)
            and direction in (None, message.direction)
            and kind in (None, message.kind)
        ]

    def sent(self, client: str) -> list[Message]:
        """The mails (no hellos) that a client sent."""
        return self.find(client, Direction.REQUEST, EnvelopeKind.MAIL)

    def hellos(self, client: str) -> list[Message]:
        """The hellos that a client sent."""
        return self.find(client, Direction.REQUEST, EnvelopeKind.HELLO)

    def answers(self, client: str) -> list[Message]:
        """What was answered to a client's hellos and mails."""
        return self.find(client, Direction.REPLY, EnvelopeKind.REPLY)

    def blobs(self) -> Iterator[bytes]:
        """Every ciphertext that was ever stored."""
        yield from self.records
        yield from self.keyrings
        yield from self.outbox


def record_number(record: bytes) -> int:
    """The number in a record's header. Raises :class:`wire.errors.StoreError`."""
    return decode_header(record).n


def record_body(record: bytes) -> bytes:
    """A record without its header."""
    return record[HEADER_BYTES:]
