"""Inboxes: mails that the enclave sends on its own, kept as entries until their recipient acknowledges them.

They have their own numbers, so they cannot race a request, and survive restarts, sessions and a host that loses
them: each hello gets the unacknowledged ones again under the new session.
"""

from __future__ import annotations

from pmap.clients import ClientState, InboxPlace, client_key, inbox_place_key
from pmap.entries import INBOX, Entries
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import MAX_INBOX_BODY_BYTES, MAX_INBOX_BYTES, MAX_INBOX_MAILS


class Inbox:
    """All clients' inboxes. Every method that writes belongs into an open transaction."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def add(self, client: bytes, state: ClientState, body: bytes) -> int:
        """Keep a mail for a client and return its number.

        Raises :class:`InvalidInput` for a body that is no bytes and :class:`LimitExceeded` for one that is
        too long or an inbox that is full; nothing is changed then.
        """
        if not isinstance(body, bytes):
            raise InvalidInput(f"a mail's body is bytes, not {type(body).__name__}")
        if len(body) > MAX_INBOX_BODY_BYTES:
            raise LimitExceeded(f"a mail of {len(body)} bytes to an inbox; at most {MAX_INBOX_BODY_BYTES} are allowed")
        if state.inbox_next - state.inbox_acked >= MAX_INBOX_MAILS:
            raise LimitExceeded(f"the recipient's inbox holds {MAX_INBOX_MAILS} unacknowledged mails, the most it can")
        if state.inbox_bytes + len(body) > MAX_INBOX_BYTES:
            raise LimitExceeded(f"the recipient's inbox would hold more than {MAX_INBOX_BYTES} unacknowledged bytes")
        number = state.inbox_next
        state.inbox_next += 1
        state.inbox_bytes += len(body)
        self._entries.put(_body_key(client, number), body)
        self._entries.put(client_key(client), state.encode())
        return number

    def place(self, client: bytes, number: int, issued: bytes, commit: int, index: int) -> bytes:
        """Note where the host keeps the encrypted mail; returns the entry's key, whose root is to be resolved."""
        key = inbox_place_key(client, number)
        self._entries.put(key, InboxPlace(issued, commit, index).encode())
        return key

    def unacknowledged(self, client: bytes, state: ClientState) -> list[tuple[int, bytes]]:
        """``(number, body)`` of every mail that the client has not acknowledged."""
        live = self._entries.live
        return [(n, live[_body_key(client, n)]) for n in range(state.inbox_acked, state.inbox_next)]

    def placed(self, client: bytes, number: int) -> list[tuple[int, int]]:
        """The outbox item (n, index) of one mail: none or one."""
        value = self._entries.live.get(inbox_place_key(client, number))
        if value is None:
            return []
        place = InboxPlace.decode(value)
        return [(place.commit, place.index)]

    def acknowledge(self, client: bytes, state: ClientState, received: int) -> list[tuple[int, int]]:
        """The client has every mail below number ``received``: forget them. Returns the outbox items to drop."""
        drops: list[tuple[int, int]] = []
        for number in range(state.inbox_acked, min(received, state.inbox_next)):
            drops += self.placed(client, number)
            state.inbox_bytes -= len(self._entries.live[_body_key(client, number)])
            self._entries.delete(_body_key(client, number))
            if inbox_place_key(client, number) in self._entries.live:
                self._entries.delete(inbox_place_key(client, number))
        state.inbox_acked = max(state.inbox_acked, min(received, state.inbox_next))
        return drops


def _body_key(client: bytes, number: int) -> bytes:
    return INBOX + client + number.to_bytes(8, "big")
