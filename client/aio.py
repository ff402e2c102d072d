"""The client for asyncio: :class:`client.sync.EnclaveClient` with coroutines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Self

from client.aio_driver import AsyncDriver
from client.aio_transport import AsyncHttpTransport, AsyncTransport
from client.comparison import compare
from client.constraint import Constraint
from client.endorsements import NO_ENDORSEMENTS, EndorsementsFrom
from client.invite import Invite
from client.knowledge import Knowledge, delays_until
from client.opening import open_session
from client.reply import InboxMail, Receipt, Reply, Resolved
from client.session import INBOX_TOPIC, RETRY_DELAYS, Session
from client.state_file import StateFile
from wire.checkpoint import Checkpoint
from wire.errors import PmapError
from wire.padding import Padding, padme


class AsyncEnclaveClient(Knowledge):
    """A client of one enclave, for the tasks of one event loop. :meth:`connect` makes one.

    One request is under way on each topic at a time. An operation that is cancelled leaves its mail pending, like
    :class:`OutcomeUnknown` does: :meth:`recover`, or the next mail on its topic, settles it first.
    """

    def __init__(
        self,
        session: Session,
        transport: AsyncTransport,
        file: StateFile | None,
        on_restart: Callable[[], object] | None,
    ) -> None:
        super().__init__(session)
        self._driver = AsyncDriver(session, transport, file, on_restart)

    @classmethod
    async def connect(
        cls,
        host: str | AsyncTransport,
        *,
        constraint: str | Constraint,
        state: str | PathLike[str] | None = None,
        state_key: bytes | None = None,
        sync_receipts: bool = True,
        invite: str | None = None,
        endorsements: EndorsementsFrom = NO_ENDORSEMENTS,
        on_restart: Callable[[], object] | None = None,
        timeout: float = 30.0,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        padding: Padding = padme,
    ) -> Self:
        """See :meth:`client.sync.EnclaveClient.connect`."""
        transport = AsyncHttpTransport(host, timeout) if isinstance(host, str) else host
        session, file = open_session(
            constraint, state, state_key, invite, retry_delays, padding, endorsements, sync_receipts=sync_receipts
        )
        client = cls(session, transport, file, on_restart)
        try:
            await client._driver.operate(session.start())
        except BaseException:
            await client._driver.release()
            raise
        return client

    async def send(self, body: bytes, topic: str = "default") -> Reply:
        """See :meth:`client.sync.EnclaveClient.send`."""
        return await self._driver.operate(self._session.send(topic, body), topic)

    async def heartbeat(self, topic: str = "default") -> Receipt:
        """See :meth:`client.sync.EnclaveClient.heartbeat`."""
        return await self._driver.operate(self._session.heartbeat(topic), topic)

    async def wait_stable(self, receipt: Receipt, timeout: float = 10.0, topic: str = "default") -> None:
        """See :meth:`client.sync.EnclaveClient.wait_stable`."""
        delays = delays_until(time.monotonic() + timeout)
        await self._driver.operate(self._session.wait_stable(receipt, topic, delays), topic)

    async def poll(self) -> list[InboxMail]:
        """See :meth:`client.sync.EnclaveClient.poll`."""
        return await self._driver.operate(self._session.poll(), INBOX_TOPIC)

    async def recover(self, *, resend: bool = True) -> list[Resolved]:
        """See :meth:`client.sync.EnclaveClient.recover`."""
        self._session.check_verdict()
        resolved = []
        for topic in self._session.pending_topics:
            one = await self._driver.operate(self._session.resolve(topic, resend=resend), topic)
            if one is not None:
                resolved.append(one)
        return resolved

    async def compare(self, other: Checkpoint | str) -> None:
        """See :meth:`client.sync.EnclaveClient.compare`."""
        await self._driver.operate(compare(self._session, other))

    async def invite(self) -> str:
        """See :meth:`client.sync.EnclaveClient.invite`."""
        await self._driver.operate(self._session.open())
        return Invite.of(self._session.state).encode()

    async def accept_rollback(self) -> None:
        """See :meth:`client.sync.EnclaveClient.accept_rollback`."""
        await self._driver.operate(self._session.accept_rollback())

    async def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        self._session.take_over()
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            with suppress(PmapError):
                await self._driver.close()
