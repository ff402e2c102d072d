"""The way to a host for asyncio: HTTP over aiohttp, and a host in the same process. See :mod:`client.transport`."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from client.http_interface import (
    BINARY,
    Call,
    attestation_call,
    check_status,
    consistency_call,
    decode_list,
    deliver_call,
    parse_url,
    poll_call,
)
from client.transport import InProcessHost, as_transport_error
from wire.errors import HostUnavailable, InvalidInput, Malformed, PmapError
from wire.limits import MAX_CONSISTENCY_BYTES, MAX_POLL_BYTES

if TYPE_CHECKING:
    import aiohttp


@runtime_checkable
class AsyncTransport(Protocol):
    """:class:`client.transport.Transport` with coroutines, for one event loop."""

    async def attestation(self) -> bytes:
        """The attestation document."""
        ...

    async def deliver(self, envelope: bytes) -> bytes:
        """Hand a hello or mail over and wait for the answer."""
        ...

    async def poll(self, address: bytes) -> list[bytes]:
        """What waits for a session (its 16-byte id)."""
        ...

    async def consistency(self, size1: int, size2: int) -> list[bytes]:
        """The hashes of a consistency proof."""
        ...

    async def close(self) -> None:
        """Let go of what is held open. Again is fine."""
        ...


class AsyncHttpTransport:
    """A host's web interface, over connections that are kept open. Needs aiohttp."""

    def __init__(self, url: str, timeout: float = 30.0, tls: ssl.SSLContext | None = None) -> None:
        """``timeout``: seconds, for one whole exchange. Raises :class:`InvalidInput`, also where aiohttp is missing."""
        self._aiohttp = _import_aiohttp()
        parts = parse_url(url)
        if not timeout > 0:
            raise InvalidInput(f"a timeout is a number of seconds above 0, not {timeout!r}")
        self._where = parts.netloc
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._tls: ssl.SSLContext | bool = tls or True
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def attestation(self) -> bytes:
        """See :class:`AsyncTransport`."""
        return await self._call(attestation_call())

    async def deliver(self, envelope: bytes) -> bytes:
        """See :class:`AsyncTransport`."""
        return await self._call(deliver_call(envelope))

    async def poll(self, address: bytes) -> list[bytes]:
        """See :class:`AsyncTransport`."""
        return decode_list(await self._call(poll_call(address)), MAX_POLL_BYTES)

    async def consistency(self, size1: int, size2: int) -> list[bytes]:
        """See :class:`AsyncTransport`."""
        return decode_list(await self._call(consistency_call(size1, size2)), MAX_CONSISTENCY_BYTES)

    async def close(self) -> None:
        """See :class:`AsyncTransport`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(self, call: Call) -> bytes:
        try:
            session = self._open_session()
            headers = BINARY if call.body is not None else None
            async with session.request(
                call.method, self._base + call.path, data=call.body, headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response, call.allowed(response.status))
        except (self._aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HostUnavailable(
                f"no answer from the host at {self._where}: {error or type(error).__name__}"
            ) from error
        check_status(response.status, body)
        return body

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            http = self._aiohttp
            self._session = http.ClientSession(
                connector=http.TCPConnector(limit=0, ssl=self._tls),
                timeout=http.ClientTimeout(total=self._timeout),
                # The host gets to say nothing that outlives an answer, and to blow nothing up.
                cookie_jar=http.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise Malformed(f"the host answered with more than {max_bytes} bytes")
    return bytes(body)


def _import_aiohttp() -> Any:
    try:
        import aiohttp
    except ModuleNotFoundError as error:
        raise InvalidInput("the asynchronous client needs aiohttp: install pmap[client]") from error
    return aiohttp


class AsyncInProcessTransport:
    """A host in the same process."""

    def __init__(self, host: InProcessHost, timeout: float = 30.0) -> None:
        """``timeout``: seconds to wait for an answer."""
        self._in_process_host = host
        self._timeout = timeout

    async def attestation(self) -> bytes:
        """See :class:`AsyncTransport`."""
        try:
            return self._in_process_host.attestation()
        except PmapError as error:
            raise as_transport_error(error) from error

    async def deliver(self, envelope: bytes) -> bytes:
        """See :class:`AsyncTransport`."""
        try:
            waiting = asyncio.wrap_future(self._in_process_host.deliver(envelope))
            # The promise is the host's: giving up here must not cancel it, and what then comes is nobody's concern.
            waiting.add_done_callback(_ignore)
            return await asyncio.wait_for(asyncio.shield(waiting), self._timeout)
        except TimeoutError as error:
            raise HostUnavailable("the host did not answer in time") from error
        except PmapError as error:
            raise as_transport_error(error) from error

    async def poll(self, address: bytes) -> list[bytes]:
        """See :class:`AsyncTransport`."""
        try:
            return self._in_process_host.poll(address)
        except PmapError as error:
            raise as_transport_error(error) from error

    async def consistency(self, size1: int, size2: int) -> list[bytes]:
        """See :class:`AsyncTransport`."""
        try:
            return self._in_process_host.consistency(size1, size2)
        except PmapError as error:
            raise as_transport_error(error) from error

    async def close(self) -> None:
        """See :class:`AsyncTransport`. The host is its owner's."""


def _ignore(answered: asyncio.Future[bytes]) -> None:
    if not answered.cancelled():
        answered.exception()
