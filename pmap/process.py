"""The enclave process: frames in on what was standard input, frames out on what was standard output.

The host is not trusted: what it sends is bounded and checked (:mod:`wire.frames`), and the worst it can achieve is that
this process ends, which it can have anyway. Handlers may print: their standard output is the process's standard
error, and their standard input is empty, so they cannot get between the frames.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from pmap.core import EnclaveCore
from pmap.launch import Launcher, load_enclave
from pmap.succession import HandingOver, TakingOver
from wire.errors import InvalidInput, Malformed, PmapError, ProofInvalid
from wire.frames import encode_frame, read_command
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
from wire.simulated import SIMULATED
from wire.tee.choice import TEES, TeeChoice

EXIT_DONE: Final = 0
EXIT_REFUSED: Final = 2
_BUFFER_BYTES: Final = 64 * 1024
_COLLECT_AFTER_OBJECTS: Final = 20_000


class HostGone(Exception):
    """The stream ended without a word."""


class EnclaveProcess:
    """One enclave and the two streams to its host."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def run(self, spec: str, tee: TeeChoice) -> int:
        """Serve until the host says stop or is gone. Returns the exit code."""
        try:
            launcher = Launcher(load_enclave(spec), tee)
            command = self._next()
            if isinstance(command, Prepare):
                launcher.prepare(command.keyring)
                self._tell(Prepared())
                command = self._next()
                if isinstance(command, Stop):
                    return EXIT_DONE
            match command:
                case Start(keyring, rotate):
                    self._serve(launcher, self._start(launcher, keyring, rotate=rotate))
                case TakeOver(invitation, endorsements):
                    self._take_over(launcher.take_over(), invitation, endorsements)
                case _:
                    raise Malformed("the host is to begin with Start or TakeOver")
        except PmapError as error:
            self._tell(Refused.of(error))
            return EXIT_REFUSED
        return EXIT_DONE

    def _start(self, launcher: Launcher, keyring: bytes | None, *, rotate: bool) -> EnclaveCore:
        launched = launcher.launch(keyring, self._records(), rotate=rotate)
        core = launched.core
        gc.freeze()  # nothing of a large map is garbage: it is not looked through for any
        gc.set_threshold(_COLLECT_AFTER_OBJECTS)
        self._tell(Ready(core.attestation.encode(), core.checkpoint.size, launched.keyring, launched.genesis))
        return core

    def _take_over(self, side: TakingOver, invitation: bytes, endorsements: bytes) -> None:
        self._tell(Requested(side.request(invitation, endorsements)))
        match self._next():
            case Receive(package):
                self._tell(Received(side.receive(package)))
            case Stop():
                pass
            case _:
                raise Malformed("the host is to go on with Receive or Stop")

    def _records(self) -> Iterator[Sequence[bytes | memoryview]]:
        while not isinstance(command := self._next(), End):
            if not isinstance(command, Records):
                raise Malformed("the host is to send records, then End")
            yield command.untrusted_records

    def _serve(self, launcher: Launcher, core: EnclaveCore) -> None:
        handing_over = launcher.hand_over(core)
        while not isinstance(command := self._next(), Stop):
            match command:
                case Deliver(batch):
                    # Sent one behind, so that the last one can be marked.
                    waiting = None
                    for delivery in core.deliver(batch):
                        if waiting is not None:
                            self._tell(Delivered(False, waiting))
                        waiting = delivery
                    assert waiting is not None, "every batch ends with a delivery"
                    self._tell(Delivered(True, waiting))
                case Learn(size, root, to_size, proof):
                    try:
                        core.learn(size, root, to_size, proof)
                    except ProofInvalid as error:
                        self._tell(Learned(str(error)))
                    else:
                        self._tell(Learned(None))
                case Attest():
                    self._tell(self._or_declined(lambda: Attested(core.attest().encode())))
                case Invite():
                    self._tell(self._or_declined(lambda: Invited(handing_over.invite())))
                case HandOver():
                    effect = self._or_declined(partial(_handed_over, handing_over, command))
                    self._tell(effect)
                    if isinstance(effect, HandedOver):
                        return  # two enclaves that go on from one state are a fork
                case _:
                    raise Malformed(f"the host sent {type(command).__name__} to a running enclave")

    def _or_declined(self, make: Callable[[], Effect]) -> Effect:
        try:
            return make()
        except PmapError as error:
            return Declined.of(error)

    def _next(self) -> Command:
        command = read_command(self._incoming.read)
        if command is None:
            raise HostGone
        return command

    def _tell(self, effect: Effect) -> None:
        try:
            for part in encode_frame(effect):
                self._outgoing.write(part)
            self._outgoing.flush()
        except BrokenPipeError as error:
            raise HostGone from error


def _handed_over(side: HandingOver, command: HandOver) -> HandedOver:
    return HandedOver(side.hand_over(command.request, command.endorsements))


def main(arguments: list[str] | None = None) -> int:
    """The command line of the enclave process; its exit code is 0, or 2 after a Refused."""
    parser = argparse.ArgumentParser(
        prog="python -m pmap", description="Run an enclave for a host that speaks frames over stdin and stdout."
    )
    parser.add_argument("enclave", metavar="MODULE:CLASS", help="the enclave's class, such as bank:Bank")
    _add_tee_options(parser)
    options = parser.parse_args(arguments)
    try:
        tee = TeeChoice(
            options.tee,
            options.tee_root,
            options.key_source,
            options.dstack_socket,
            options.simulated_key,
            options.simulated_signer,
        )
    except InvalidInput as error:
        parser.error(str(error))
    if os.isatty(0):
        parser.error("standard input is a terminal: enclaves are started by their host, as in: pmap serve bank:Bank")
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # Ctrl-C, a shell's kill %1 and systemd's stop reach the whole group:
        signal.signal(number, signal.SIG_IGN)  # it is the host who stops us, when it has finished its work
    incoming, outgoing = _claim_standard_streams()
    _end_with_the_host(incoming.fileno())
    if (here := os.getcwd()) not in sys.path:  # left out if Python runs with its safe path
        sys.path.insert(0, here)
    print(f"pmap: {_announcement(options.enclave, tee)}", file=sys.stderr)
    try:
        return EnclaveProcess(incoming, outgoing).run(options.enclave, tee)
    except HostGone:
        with suppress(BrokenPipeError):
            outgoing.close()  # here, where the error of flushing to nobody can be caught
        return EXIT_DONE


def _add_tee_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group(
        "where it runs",
        "In a TEE these are measured with its command line: another choice is another identity.",
    )
    options.add_argument("--tee", choices=TEES, default=SIMULATED, help="the TEE, never guessed; default: %(default)s")
    options.add_argument(
        "--tee-root", metavar="DIR", type=Path, default=Path("/"), help="the folder that the TEE's files are under"
    )
    options.add_argument(
        "--key-source",
        metavar="SOURCE",
        help="where the sealing key comes from if not from the TEE: vtpm, vtpm:TCTI, file:PATH, provider:MODULE:NAME",
    )
    options.add_argument("--dstack-socket", metavar="PATH", type=Path, help="the dstack guest agent's socket")
    options.add_argument(
        "--simulated-key",
        metavar="FILE",
        type=Path,
        help="the simulated TEE's key file; made if it is missing and the store is new (INSECURE: for development)",
    )
    options.add_argument(
        "--simulated-signer", metavar="NAME", help="who is said to have signed the code, in the simulated TEE"
    )


def _announcement(spec: str, tee: TeeChoice) -> str:
    if tee.kind == SIMULATED:
        return f"{spec} runs in a SIMULATED TEE: nothing protects it or its key"
    where = "" if tee.root == Path("/") else f", whose files are read under {tee.root}: NOT the machine's own"
    return f"{spec} runs in the TEE {tee.kind}{where}"


def _claim_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of standard input and output; what carries those names from here on cannot reach the host."""
    incoming, outgoing = os.dup(0), os.dup(1)  # not inherited by what a handler starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    return open(incoming, "rb", buffering=_BUFFER_BYTES), open(outgoing, "wb", buffering=_BUFFER_BYTES)


def _end_with_the_host(fd: int) -> None:
    """End the process when the host's end of the stream closes, also while a handler is at work."""

    def wait() -> None:
        hangup = select.poll()
        hangup.register(fd, 0)  # a hang-up is reported without being asked for
        hangup.poll()
        os._exit(EXIT_DONE)

    threading.Thread(target=wait, name="host watch", daemon=True).start()
