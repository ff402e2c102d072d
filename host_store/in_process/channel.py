"""The enclave's core in the host's own process: no isolation at all, no second process to start.

For development, tests, and programs that are enclave and host in one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from pmap.core import EnclaveCore
from pmap.launch import Launcher, load_enclave
from pmap.succession import HandingOver
from wire.boundary import Delivery, Incoming
from wire.errors import HostUnavailable, ProofInvalid
from wire.messages import Ready
from wire.tee.choice import TeeChoice

_RECORDS_AT_ONCE: Final = 1024


class InProcessChannel:
    """See :class:`host_store.channel.EnclaveChannel`. A handler that hangs cannot be killed here."""

    def __init__(self, enclave: str | type, tee: TeeChoice | Path | None) -> None:
        """``enclave``: a subclass of :class:`pmap.Enclave`, or ``"MODULE:CLASS"``; ``tee``: as of
        :class:`pmap.launch.Launcher`. Raises :class:`InvalidInput`."""
        self._launcher = Launcher(load_enclave(enclave) if isinstance(enclave, str) else enclave, tee)
        self._handing_over: HandingOver | None = None
        self._core: EnclaveCore | None = None
        self._waits = False

    @property
    def pid(self) -> int | None:
        """None: it runs in this process."""
        return None

    def prepare(self, keyring: bytes | None) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._launcher.prepare(keyring)
        self._waits = True

    def start(self, keyring: bytes | None, records: Iterable[bytes], *, rotate: bool = False) -> Ready:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._waits = False
        rest = iter(records)
        launched = self._launcher.launch(keyring, iter(lambda: list(islice(rest, _RECORDS_AT_ONCE)), []), rotate=rotate)
        self._core = core = launched.core
        self._handing_over = self._launcher.hand_over(core)
        return Ready(core.attestation.encode(), core.checkpoint.size, launched.keyring, launched.genesis)

    def deliver(self, batch: Sequence[Incoming]) -> Iterator[Delivery]:
        """See :class:`host_store.channel.EnclaveChannel`."""
        core = self._running()
        try:
            yield from core.deliver(batch)
        except Exception as error:
            raise _broken(error) from error

    def learn(self, size: int, root: bytes, to_size: int, proof: list[bytes]) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        core = self._running()
        try:
            core.learn(size, root, to_size, proof)
        except ProofInvalid:
            raise
        except Exception as error:
            raise _broken(error) from error

    def attest(self) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        return self._running().attest().encode()

    def invite(self) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._running()
        assert self._handing_over is not None
        return self._handing_over.invite()

    def hand_over(self, request: bytes, endorsements: bytes) -> bytes:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._running()
        assert self._handing_over is not None
        package = self._handing_over.hand_over(request, endorsements)
        self.close()
        return package

    def check(self) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        if not self._waits:
            self._running()

    def close(self) -> None:
        """See :class:`host_store.channel.EnclaveChannel`."""
        self._core = None
        self._waits = False

    kill = close

    def _running(self) -> EnclaveCore:
        if self._core is None:
            raise HostUnavailable("the enclave was stopped")
        return self._core


def _broken(error: Exception) -> HostUnavailable:
    # What would end a process ends this incarnation: its state can no longer be relied on.
    return HostUnavailable(f"the enclave broke down: {type(error).__name__}: {error}")
