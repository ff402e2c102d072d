"""Sessions: one client's key agreement with this epoch. In memory only: they end with the epoch.

A client has one session at a time; its hellos carry growing numbers, so a replayed or an older device's hello
cannot take the place of a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wire.crypto import HmacKey
from wire.errors import ClientStale, ReplayRefused


@dataclass(slots=True)
class Session:
    """One session. ``number`` and ``hello`` are the hello's number and digest, ``sender`` the client's key in hex."""

    id: bytes
    client: bytes
    secret: HmacKey
    number: int
    hello: bytes
    sender: str = field(init=False)

    def __post_init__(self) -> None:
        self.sender = self.client.hex()


class Sessions:
    """All sessions of this epoch, by id and by client."""

    __slots__ = ("_by_client", "_by_id")

    def __init__(self) -> None:
        self._by_id: dict[bytes, Session] = {}
        self._by_client: dict[bytes, Session] = {}

    def find(self, session_id: bytes) -> Session | None:
        """The session of this id, if this epoch knows it."""
        return self._by_id.get(session_id)

    def of_client(self, client: bytes) -> Session | None:
        """The client's present session."""
        return self._by_client.get(client)

    def check_hello(self, hello: Session) -> None:
        """May this session be opened?

        Raises:
            ReplayRefused: this very hello came before, or the session's id is taken.
            ClientStale: another hello with this or a higher number came before.
        """
        last = self._by_client.get(hello.client)
        if last is not None and hello.number <= last.number:
            if hello.hello == last.hello:
                raise ReplayRefused("this hello was accepted before; say hello anew")
            raise ClientStale(
                f"hello {hello.number} came after hello {last.number}:"
                " the client's state is old, or two devices share it"
            )
        if hello.id in self._by_id:
            raise ReplayRefused("this session's id is taken; say hello anew")

    def open(self, session: Session) -> None:
        """Let the session replace the client's last one."""
        last = self._by_client.get(session.client)
        if last is not None:
            del self._by_id[last.id]
        self._by_client[session.client] = session
        self._by_id[session.id] = session
