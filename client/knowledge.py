"""What both clients can tell without asking anybody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from client.identity import Identity
from client.reply import Receipt
from client.session import Session
from wire.checkpoint import Checkpoint
from wire.errors import FreshnessError

_FIRST_DELAY: Final = 0.05  # seconds
_MOST_DELAY: Final = 1.0  # seconds


class Knowledge:
    """Base of the clients: what is known of the enclave, the store, and this client itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def receipt(self) -> Receipt | None:
        """Of the last mail that was processed."""
        return self._session.receipt

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The highest that this client holds; None before the first operation, or from an enclave without state."""
        return self._session.state.highest

    @property
    def store_id(self) -> bytes:
        """The store's id, 16 bytes."""
        return self._session.store_id

    @property
    def checkpoint_key(self) -> bytes:
        """The public key that the store's checkpoints and alarms are signed with."""
        return self._session.checkpoint_key

    @property
    def client_id(self) -> str:
        """This client's public key in hexadecimal: what the enclave calls its sender."""
        return self._session.client_id

    @property
    def identity(self) -> Identity | None:
        """The enclave, as its evidence shows it."""
        return self._session.handshake.identity

    @property
    def verdict(self) -> FreshnessError | None:
        """The rollback or fork that was proved to this client and stops it, if there is one."""
        verdict = self._session.state.verdict
        return None if verdict is None else verdict.error()


def delays_until(deadline: float) -> Iterator[float]:
    """Growing delays, in seconds, that end at a time of :func:`time.monotonic`."""
    delay = _FIRST_DELAY
    while (left := deadline - time.monotonic()) > 0:
        yield min(delay, left)
        delay = min(2 * delay, _MOST_DELAY)
