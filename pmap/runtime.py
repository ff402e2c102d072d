"""What the parts of one running enclave share: the log and its entries, the open turn, the commit.

Every step of a mail's way (:mod:`pmap.hello`, :mod:`pmap.mailroom`) writes through this object, and everything
that it has written leaves with one commit (:meth:`Runtime.commit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmap.clients import (
    NOWHERE,
    UNRESOLVED,
    ClientState,
    client_key,
    largest_shown,
    positions_issued_to,
    resolve,
    shown_sizes,
    size_of,
)
from pmap.enclave import Enclave, EnclaveSettings
from pmap.entries import FILES, Entries, successor
from pmap.filesystem.settings import FilesystemSettings
from pmap.freshness import Evidence
from pmap.inbox import Inbox
from pmap.log import CommitLog
from pmap.map import PersistentMap
from pmap.sessions import Session, Sessions
from pmap.stability import Stability
from pmap.turn import Turn
from wire.boundary import Delivery, StoredCommit
from wire.checkpoint import POSITION_BYTES, position
from wire.crypto import PUBLIC_KEY_BYTES, Randomness
from wire.errors import InvalidInput
from wire.mail import Outcome, Reply

if TYPE_CHECKING:
    from pmap.filesystem.filesystem import FileSystem


class Runtime:
    """One epoch of one enclave. It is also the :class:`pmap.enclave.Platform` that handlers use."""

    def __init__(self, enclave: Enclave, log: CommitLog, randomness: Randomness) -> None:
        self.settings = EnclaveSettings.of(type(enclave))
        self.enclave = enclave
        self.log = log
        self.entries = log.entries
        self.live = log.entries.live
        self.map = PersistentMap(log.entries, self.settings.map_size)
        self.fs = _files(log.entries, self.settings.files)
        self.sessions = Sessions()
        self.inbox = Inbox(log.entries)
        self.stability = Stability(self.settings.roster)
        self.evidence = Evidence(log.history, log.store_id, log.public_key)
        self.persistent = self.settings.persistent
        self.enrolled = 0
        self._randomness = randomness
        self._padding = type(enclave).reply_padding
        # Commits are numbered by the log; where nothing persists, by this.
        self._number = 0
        self.turn = self._new_turn()
        self._load_clients()
        enclave._platform = self

    def _load_clients(self) -> None:
        shown = shown_sizes(self.entries)
        self.enrolled = len(shown)
        for client in shown:
            self.stability.enrol(client)
        # Only once all are enrolled: fewer voters would make too small a quorum.
        for client, size in shown.items():
            self.stability.acknowledge(client, size)

    @property
    def store_id(self) -> bytes:
        """The store's id, 16 bytes."""
        return self.log.store_id

    # --- the coming commit -------------------------------------------------------------------------------

    def _new_turn(self) -> Turn:
        if self.persistent:
            return Turn(self.log.n + 1, position(self.log.n + 1, UNRESOLVED))
        return Turn(self._number + 1, NOWHERE)

    def issue(self) -> bytes:
        """The position that the coming commit gives out; its root is filled in once it is known."""
        return self.turn.position

    def check_highest(self, claim: bytes, key: bytes, client: ClientState, *, hello: bool = False) -> None:
        """Rule 2 of :mod:`pmap.freshness` for this client."""
        if hello or not (claim or client.issued == NOWHERE):
            client.acked = largest_shown(self.entries, key, client)
        self.evidence.check_highest(claim, client, lambda: positions_issued_to(self.entries, key), hello=hello)

    def acknowledge(self, key: bytes, client: ClientState, highest: bytes) -> None:
        """Take evidence that was accepted into a client's state, which is then to be saved."""
        if size_of(highest) > size_of(client.acked):
            client.acked = highest[:POSITION_BYTES]
        self.stability.acknowledge(key, size_of(client.acked))

    def save_client(self, key: bytes, client: ClientState) -> None:
        """Write a client's entry. Inside a transaction."""
        entry = client_key(key)
        self.entries.put(entry, client.encode())
        self.turn.touched.append(entry)
        self.turn.commits = True

    def commit(self) -> Delivery:
        """Make the commit, if there is anything to commit, then the replies that carry its checkpoint."""
        turn = self.turn
        stored, evidence = None, b""
        if turn.commits and self.persistent:
            made = self.log.commit()
            evidence = self.log.checkpoint.encode()
            stored = StoredCommit(made.n, made.record, made.leaf, made.tail)
            for key in turn.touched:
                resolve(self.entries, key, made.n, made.root)
        elif turn.commits:
            self.entries.take_changes()
            self._number += 1
        number = self.log.n if self.persistent else self._number
        self.turn = self._new_turn()
        return turn.seal(number, stored, evidence, self.stability.size, self._randomness, self._padding)

    # --- mails that the enclave sends on its own ---------------------------------------------------------

    def send(self, recipient: str, body: bytes) -> None:
        """Queue a mail to a client's inbox.

        Raises :class:`InvalidInput` for an unknown recipient or outside a handler, :class:`LimitExceeded` for a
        full inbox or too long a mail.
        """
        if not self.entries.in_transaction:
            raise InvalidInput("mail is sent from inside receive_mail")
        client = _public_key(recipient)
        value = self.live.get(client_key(client))
        if value is None:
            raise InvalidInput("the recipient is not a client of this enclave")
        number = self.inbox.add(client, ClientState.decode(value), body)
        session = self.sessions.of_client(client)
        if session is not None:
            self.send_now(session, number, body)

    def send_now(self, session: Session, number: int, body: bytes) -> None:
        """Encrypt an inbox mail for an open session with the coming commit."""
        index = self.turn.boxed(None, session, Reply(Outcome.INBOX, "inbox", number, b"", None, 0, body))
        key = self.inbox.place(session.client, number, self.issue(), self.turn.number, index)
        self.turn.touched.append(key)


def _files(entries: Entries, settings: FilesystemSettings) -> FileSystem | None:
    if not settings.persistent and not settings.memory and not entries.order.run(FILES, successor(FILES), 1):
        return None
    # Here, because an enclave without files starts sooner without the code for them.
    from pmap.filesystem.setup import check_stored, mount

    check_stored(entries, settings)
    return mount(entries, settings)


def _public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except (ValueError, TypeError) as error:
        raise InvalidInput("a recipient is a client's public key in hexadecimal") from error
    if len(key) != PUBLIC_KEY_BYTES:
        raise InvalidInput(f"a recipient is a client's public key: {PUBLIC_KEY_BYTES} bytes in hexadecimal")
    return key
