"""The way to a host, as an interface, and two that wait: HTTP, and a host in the same process.

Nothing that comes from a host is trusted or interpreted here; it is only bounded, in bytes and in time.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import io
import socket
import ssl
import threading
import time
from typing import Any, Final, Protocol, runtime_checkable

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
from wire.errors import HostUnavailable, InvalidInput, MailTooLarge, Malformed, PmapError, ReplyWithheld, SessionUnknown
from wire.limits import MAX_CONSISTENCY_BYTES, MAX_POLL_BYTES

_IDLE_CONNECTIONS: Final = 16
"""So many connections are kept open while nobody uses them."""
_TRANSPORT_ERRORS: Final = (SessionUnknown, MailTooLarge, ReplyWithheld, Malformed, HostUnavailable)


@runtime_checkable
class Transport(Protocol):
    """See the module's docstring. Calls may come from several threads.

    Every method raises :class:`HostUnavailable` and :class:`Malformed`, and nothing is known then of what the host did;
    ``deliver`` also :class:`SessionUnknown`, :class:`MailTooLarge` and :class:`ReplyWithheld`, which are the host's
    word only.
    """

    def attestation(self) -> bytes:
        """The attestation document."""
        ...

    def deliver(self, envelope: bytes) -> bytes:
        """Hand a hello or mail over and wait for the answer."""
        ...

    def poll(self, address: bytes) -> list[bytes]:
        """What waits for a session (its 16-byte id)."""
        ...

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """The hashes of a consistency proof."""
        ...

    def close(self) -> None:
        """Let go of what is held open. Again is fine."""
        ...


class HttpTransport:
    """A host's web interface, over connections that are kept open."""

    def __init__(self, url: str, timeout: float = 30.0, tls: ssl.SSLContext | None = None) -> None:
        """``timeout``: seconds, for one whole exchange. Raises :class:`InvalidInput`."""
        parts = parse_url(url)
        if not timeout > 0:
            raise InvalidInput(f"a timeout is a number of seconds above 0, not {timeout!r}")
        assert parts.hostname is not None
        self._host = parts.hostname
        self._port = parts.port
        self._where = parts.netloc
        self._base = parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._guard = threading.Lock()

    def attestation(self) -> bytes:
        """See :class:`Transport`."""
        return self._call(attestation_call())

    def deliver(self, envelope: bytes) -> bytes:
        """See :class:`Transport`."""
        return self._call(deliver_call(envelope))

    def poll(self, address: bytes) -> list[bytes]:
        """See :class:`Transport`."""
        return decode_list(self._call(poll_call(address)), MAX_POLL_BYTES)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """See :class:`Transport`."""
        return decode_list(self._call(consistency_call(size1, size2)), MAX_CONSISTENCY_BYTES)

    def close(self) -> None:
        """See :class:`Transport`."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _call(self, call: Call) -> bytes:
        with self._guard:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._exchange(connection, call)
            except _ClosedMeanwhile:
                pass  # by the host, for having been idle: that says nothing about the host, so ask once more
        try:
            return self._exchange(self._connection(), call)
        except _ClosedMeanwhile as error:
            raise HostUnavailable(f"the host closed the connection without an answer: {error}") from error

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        connection.response_class = _Response
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, call: Call) -> bytes:
        """One request and its answer; then the connection is idle again, or closed."""
        deadline = time.monotonic() + self._timeout
        response: http.client.HTTPResponse | None = None
        whole = False
        try:
            connection.timeout = self._timeout
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(_left(deadline))
            connection.request(call.method, self._base + call.path, call.body, BINARY if call.body is not None else {})
            connection.sock.settimeout(_left(deadline))
            response = connection.getresponse()
            allowed = call.allowed(response.status)
            body = response.read(allowed + 1)
            if len(body) > allowed:
                raise Malformed(f"the host answered with more than {allowed} bytes")
            if response.length:
                raise HostUnavailable("the host's answer broke off")
            whole = response.isclosed()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            raise _ClosedMeanwhile(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise HostUnavailable(f"no answer from the host at {self._where}: {_reason(error)}") from error
        finally:
            if response is not None:
                response.close()
            self._put_back(connection, whole=whole)
        check_status(response.status, body)
        return body

    def _put_back(self, connection: http.client.HTTPConnection, *, whole: bool) -> None:
        with self._guard:
            if whole and connection.sock is not None and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _ClosedMeanwhile(Exception):
    """The other side had closed the connection before it answered."""


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


class _Response(http.client.HTTPResponse):
    """A response all of which has to arrive within the timeout that its socket has when it begins.

    A socket's own timeout starts anew with every byte, so a host could send one now and then for ever.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        timeout = sock.gettimeout()
        assert timeout is not None, "every exchange has a timeout"
        self.fp.close()
        self.fp: io.BufferedReader = io.BufferedReader(_Timed(sock, time.monotonic() + timeout))


class _Timed(io.RawIOBase):
    """Reads a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        # A file of the socket keeps it open for as long as the response is read.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises :class:`TimeoutError` at the deadline."""
        self._sock.settimeout(_left(self._deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Close the file, not the socket."""
        self._file.close()
        super().close()


# --- in the same process ---------------------------------------------------------------------------------


class InProcessHost(Protocol):
    """A host as an object."""

    def attestation(self) -> bytes: ...

    def deliver(self, envelope: bytes, /) -> concurrent.futures.Future[bytes]: ...

    def poll(self, address: bytes, /) -> list[bytes]: ...

    def consistency(self, size1: int, size2: int, /) -> list[bytes]: ...


class InProcessTransport:
    """A host in the same process: for tests, and for programs that are host and client in one."""

    def __init__(self, host: InProcessHost, timeout: float = 30.0) -> None:
        """``timeout``: seconds to wait for an answer."""
        self._in_process_host = host
        self._timeout = timeout

    def attestation(self) -> bytes:
        """See :class:`Transport`."""
        try:
            return self._in_process_host.attestation()
        except PmapError as error:
            raise as_transport_error(error) from error

    def deliver(self, envelope: bytes) -> bytes:
        """See :class:`Transport`."""
        try:
            return self._in_process_host.deliver(envelope).result(self._timeout)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
            raise HostUnavailable("the host did not answer in time") from error
        except PmapError as error:
            raise as_transport_error(error) from error

    def poll(self, address: bytes) -> list[bytes]:
        """See :class:`Transport`."""
        try:
            return self._in_process_host.poll(address)
        except PmapError as error:
            raise as_transport_error(error) from error

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """See :class:`Transport`."""
        try:
            return self._in_process_host.consistency(size1, size2)
        except PmapError as error:
            raise as_transport_error(error) from error

    def close(self) -> None:
        """See :class:`Transport`. The host is its owner's."""


def as_transport_error(error: PmapError) -> PmapError:
    """What a transport may raise for an error inside a host."""
    return error if isinstance(error, _TRANSPORT_ERRORS) else HostUnavailable(f"the host failed: {error}")
