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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from pmap.core import EnclaveCore
from pmap.launch import Launcher, load_enclave
from wire.errors import Malformed, PmapError, ProofInvalid
from wire.frames import encode_frame, read_command
from wire.messages import Command, Deliver, Delivered, Effect, End, Learn, Learned, Ready, Records, Refused, Start, Stop

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

    def run(self, spec: str, simulated_key: Path | None) -> int:
        """Serve until the host says stop or is gone. Returns the exit code."""
        try:
            self._serve(self._start(Launcher(load_enclave(spec), simulated_key)))
        except PmapError as error:
            self._tell(Refused.of(error))
            return EXIT_REFUSED
        return EXIT_DONE

    def _start(self, launcher: Launcher) -> EnclaveCore:
        start = self._next()
        if not isinstance(start, Start):
            raise Malformed("the host is to begin with Start")
        launched = launcher.launch(start.keyring, self._records())
        core = launched.core
        # What is there now stays: the collector need not look at it again and again, nor so often.
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER_OBJECTS)
        self._tell(Ready(core.attestation.encode(), core.checkpoint.size, launched.keyring, launched.genesis))
        return core

    def _records(self) -> Iterator[list[bytes]]:
        while not isinstance(command := self._next(), End):
            if not isinstance(command, Records):
                raise Malformed("the host is to send records, then End")
            yield command.untrusted_records

    def _serve(self, core: EnclaveCore) -> None:
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
                case _:
                    raise Malformed(f"the host sent {type(command).__name__} to a running enclave")

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


def main(arguments: list[str] | None = None) -> int:
    """The command line of the enclave process; its exit code is 0, or 2 after a Refused."""
    parser = argparse.ArgumentParser(
        prog="python -m pmap", description="Run an enclave for a host that speaks frames over stdin and stdout."
    )
    parser.add_argument("enclave", metavar="MODULE:CLASS", help="the enclave's class, such as bank:Bank")
    parser.add_argument(
        "--simulated-key",
        metavar="FILE",
        type=Path,
        help="the simulated TEE's key file; made if it is missing and the store is new (INSECURE: for development)",
    )
    options = parser.parse_args(arguments)
    if os.isatty(0):
        parser.error("standard input is a terminal: enclaves are started by their host, as in: pmap serve bank:Bank")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; it is the host who stops us
    incoming, outgoing = _claim_standard_streams()
    _end_with_the_host(incoming.fileno())
    if (here := os.getcwd()) not in sys.path:  # left out if Python runs with its safe path
        sys.path.insert(0, here)
    print(f"pmap: {options.enclave} runs in a SIMULATED TEE: nothing protects it or its key", file=sys.stderr)
    try:
        return EnclaveProcess(incoming, outgoing).run(options.enclave, options.simulated_key)
    except HostGone:
        with suppress(BrokenPipeError):
            outgoing.close()  # here, where the error of flushing to nobody can be caught
        return EXIT_DONE


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
