"""The enclave as a child process that speaks frames over its standard input and output.

Its standard error is ours, so what it and its handlers print is seen. It is the only child's way out besides frames: if
it dies, the operating system says how, and the sentence of the error says what to do.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from wire.boundary import Delivery, Incoming
from wire.errors import HostUnavailable, Malformed, ProofInvalid
from wire.frames import encode_frame, read_effect
from wire.limits import RECORDS_PER_READ_BYTES
from wire.messages import (
    Attest,
    Attested,
    Command,
    Declined,
    Deliver,
    Delivered,
    Effect,
    End,
    HandedOver,
    HandOver,
    Invite,
    Invited,
    Learn,
    Learned,
    Prepare,
    Prepared,
    Ready,
    Receive,
    Received,
    Records,
    Refused,
    Requested,
    Start,
    Stop,
    TakeOver,
)
from wire.tee.choice import TeeChoice

_PIPE_BYTES: Final = 1024 * 1024
"""How much a pipe should hold, so that a batch passes with few switches; the system may grant less."""
_BUFFER_BYTES: Final = 64 * 1024
STOP_SECONDS: Final = 10.0
"""How long an enclave that was told to stop may take before it is killed."""

_Kind = TypeVar("_Kind", bound=Effect)


class EnclaveProcess:
    """See :class:`host_store.channel.EnclaveChannel`."""

    def __init__(self, command: Sequence[str], on_end: Callable[[], None], *, import_from: Path | None = None) -> None:
        """Run ``command`` (see :func:`enclave_command`), with ``import_from`` first on its module path.

        Raises :class:`HostUnavailable` where the system cannot run it.
        """
        environment = dict(os.environ)
        if import_from is not None:
            known = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = f"{import_from}{os.pathsep}{known}" if known else str(import_from)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=_BUFFER_BYTES,
                env=environment,
            )
        except OSError as error:
            raise HostUnavailable(f"cannot run the enclave process ({command[0]}): {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._outgoing: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._incoming: BinaryIO = self._process.stdout  # type: ignore[assignment]
        for pipe in (self._outgoing, self._incoming):
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._cut_off = False
        self._on_end = on_end
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="enclave watch", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        return self._process.pid

    def prepare(self, keyring: bytes | None) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._or_refused(Prepare(keyring), Prepared)

    def start(self, keyring: bytes | None, records: Iterable[bytes], *, rotate: bool = False) -> Ready:
        """Hand over keyring and records; see :class:`host_store.channel.EnclaveChannel`."""
        try:
            self._say(Start(keyring, rotate))
            if keyring is not None:
                for portion in _portions(records):
                    self._say(Records(portion))
                self._say(End())
        except BrokenPipeError:
            pass  # it ended early; what it said before is there to be read
        effect = self._hear()
        if isinstance(effect, Refused):
            raise effect.error()
        return _expect(Ready, effect)

    def deliver(self, batch: Sequence[Incoming]) -> Iterator[Delivery]:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._ask(Deliver(list(batch)))
        return self._deliveries()

    def _deliveries(self) -> Iterator[Delivery]:
        last = False
        while not last:
            last, delivery = _expect(Delivered, self._hear())
            yield delivery

    def learn(self, size: int, root: bytes, to_size: int, proof: list[bytes]) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._ask(Learn(size, root, to_size, proof))
        refused = _expect(Learned, self._hear()).refused
        if refused is not None:
            raise ProofInvalid(refused)

    def attest(self) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        return self._or_declined(Attest(), Attested).attestation

    def invite(self) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        return self._or_declined(Invite(), Invited).invitation

    def hand_over(self, request: bytes, endorsements: bytes) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        return self._or_declined(HandOver(request, endorsements), HandedOver).package

    def take_over(self, invitation: bytes, endorsements: bytes) -> bytes:
        """Instead of :meth:`start`: the request for the predecessor. Raises what the enclave refuses it for."""
        return self._or_refused(TakeOver(invitation, endorsements), Requested).request

    def receive(self, package: bytes) -> bytes:
        """After :meth:`take_over`: the keyring, sealed for this enclave; it ends. Raises what it refuses it for."""
        return self._or_refused(Receive(package), Received).keyring

    def check(self) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        if self._ended.is_set():
            raise self._end()

    def close(self) -> None:
        """Say Stop and wait; kill it after ``STOP_SECONDS``."""
        with suppress(OSError, ValueError):
            self._say(Stop())
        if not self._ended.wait(STOP_SECONDS):
            self._process.kill()
            self._ended.wait()
        for pipe in (self._outgoing, self._incoming):
            with suppress(OSError):  # what was not flushed has no reader any more
                pipe.close()

    def kill(self) -> None:
        """See :class:`host_store.channel.EnclaveChannel`. The streams stay open for the thread that uses them."""
        self._process.kill()

    def _watch(self) -> None:
        self._process.wait()
        self._ended.set()
        self._on_end()

    # --- frames ---

    def _or_declined(self, command: Command, kind: type[_Kind]) -> _Kind:
        self._ask(command)
        effect = self._hear()
        if isinstance(effect, Declined):
            raise effect.error()
        return _expect(kind, effect)

    def _or_refused(self, command: Command, kind: type[_Kind]) -> _Kind:
        with suppress(BrokenPipeError):  # it ended early; what it said before is there to be read
            self._say(command)
        effect = self._hear()
        if isinstance(effect, Refused):
            raise effect.error()
        return _expect(kind, effect)

    def _ask(self, command: Command) -> None:
        try:
            self._say(command)
        except OSError as error:
            raise self._end() from error

    def _say(self, command: Command) -> None:
        for part in encode_frame(command):
            self._outgoing.write(part)
        self._outgoing.flush()

    def _hear(self) -> Effect:
        try:
            effect = read_effect(self._read)
        except Malformed as error:
            if self._cut_off:
                raise self._end() from error
            raise
        except OSError as error:
            raise self._end() from error
        if effect is None:
            raise self._end()
        return effect

    def _read(self, length: int) -> bytes:
        data = self._incoming.read(length)
        self._cut_off = len(data) < length
        return data

    def _end(self) -> HostUnavailable:
        """The error for a process that has ended or is about to."""
        if not self._ended.wait(STOP_SECONDS):
            return HostUnavailable("the enclave process closed its output without ending: see its standard error")
        code = self._process.returncode
        if code < 0:
            with suppress(ValueError):
                return HostUnavailable(
                    f"the enclave process was killed by {signal.Signals(-code).name}"
                    " (if nobody did that by hand, look for a lack of memory in the system's log)"
                )
        return HostUnavailable(f"the enclave process ended with exit code {code}: its standard error says why")


def _expect(kind: type[_Kind], effect: Effect) -> _Kind:
    if isinstance(effect, Refused):
        raise Malformed(f"the enclave gave up: {effect.text}")
    if not isinstance(effect, kind):
        raise Malformed(f"the enclave sent {type(effect).__name__} where {kind.__name__} was due")
    return effect


def enclave_command(spec: str, tee: TeeChoice | Path | None) -> list[str]:
    """The command that runs the enclave ``MODULE:CLASS`` with this interpreter; ``tee``: where, a path standing for the
    simulated TEE with this key file."""
    choice = tee if isinstance(tee, TeeChoice) else TeeChoice(simulated_key=tee)
    return [sys.executable, "-m", "pmap", *choice.arguments(), "--", spec]


def _portions(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records in lists of about ``RECORDS_PER_READ_BYTES``."""
    portion: list[bytes] = []
    size = 0
    for record in records:
        portion.append(record)
        size += len(record)
        if size >= RECORDS_PER_READ_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
