"""Which enclave, and how it runs, as a factory of channels: a process for each incarnation, or objects in this one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from host_store.channel import ChannelFactory, EnclaveChannel
from host_store.enclave_process import EnclaveProcess, enclave_command
from wire.errors import InvalidInput
from wire.tee.choice import TeeChoice


def channel_factory(
    enclave: str | type, how: TeeChoice | Sequence[str], in_process: bool, import_from: str | Path | None
) -> ChannelFactory:
    """How to start this enclave's incarnations, one channel each. ``how``: the TEE, or the whole command. The others as
    of :meth:`host_store.host.EnclaveHost.start`.

    Raises :class:`InvalidInput` for what contradicts itself.
    """
    if not isinstance(how, TeeChoice):
        if in_process:
            raise InvalidInput("an enclave that a command runs does not run in this process")
        return lambda on_end: EnclaveProcess(how, on_end)
    if in_process:
        return _in_process_factory(enclave, how, import_from)
    if isinstance(enclave, str):
        spec, folder = enclave, None if import_from is None else Path(import_from).absolute()
    else:
        spec = _spec_of(enclave)
        folder = _module_root(enclave) if import_from is None else Path(import_from).absolute()
    command = enclave_command(spec, how)

    def run(on_end: Callable[[], None]) -> EnclaveChannel:
        return EnclaveProcess(command, on_end, import_from=folder)

    return run


def _in_process_factory(enclave: str | type, tee: TeeChoice, import_from: str | Path | None) -> ChannelFactory:
    # Only hosts that ask for it get the enclave's code into their process.
    from host_store.in_process.channel import InProcessChannel

    for folder in [str(Path.cwd()), *([] if import_from is None else [str(Path(import_from).absolute())])]:
        if isinstance(enclave, str) and folder not in sys.path:
            sys.path.insert(0, folder)

    def make(on_end: Callable[[], None]) -> EnclaveChannel:
        return InProcessChannel(enclave, tee)

    return make


def name_of(enclave: str | type) -> str:
    """``MODULE:CLASS``."""
    return enclave if isinstance(enclave, str) else f"{enclave.__module__}:{enclave.__qualname__}"


def _spec_of(enclave: type) -> str:
    """How an enclave process can find the class. Raises :class:`InvalidInput` where it cannot."""
    if not isinstance(enclave, type):
        raise InvalidInput(f"an enclave is a class or its name MODULE:CLASS, not {enclave!r}")
    if enclave.__module__ == "__main__" or "<locals>" in enclave.__qualname__:
        raise InvalidInput(
            f"a process of its own cannot import {enclave.__qualname__} from {enclave.__module__}: "
            "move it to a module, or pass in_process=True"
        )
    return name_of(enclave)


def _module_root(enclave: type) -> Path | None:
    """The folder that the class's module was found in."""
    file = getattr(sys.modules.get(enclave.__module__), "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    depth = enclave.__module__.count(".") + (path.stem == "__init__")
    return path.parents[depth]
