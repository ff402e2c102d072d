"""A real host (:class:`host_store.host.EnclaveHost` on LMDB, the enclave in process) in the hands of an adversary."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from client import EnclaveClient, InProcessTransport
from host_store.host import EnclaveHost
from pmap import Enclave, Mail, Rejected
from wire.errors import HostUnavailable, PmapError

Tamper = Callable[[bytes], bytes]


class Recorder(Enclave):
    """Notes every mail that its handler gets, where the adversary and the tests can see it."""

    persistent_map = True

    def receive_mail(self, mail: Mail) -> bytes | None:
        executed.append(mail.body)
        self.map["count"] = str(int(self.map.get("count", b"0")) + 1).encode()
        word, _, rest = mail.body.partition(b" ")
        match word:
            case b"reject":
                raise Rejected(rest.decode())
            case b"crash":
                raise KeyError("a secret of another client")
            case b"nothing":
                return None
            case b"mail":
                recipient, _, body = rest.partition(b" ")
                self.send(recipient.decode(), body)
                return b"mailed"
            case b"count":
                return self.map["count"]
            case b"large":
                return bytes(int(rest))
        return b"done " + mail.body


class Forgetful(Enclave):
    """Keeps no state over restarts."""

    def receive_mail(self, mail: Mail) -> bytes | None:
        executed.append(mail.body)
        return b"done " + mail.body


executed: list[bytes] = []
"""Bodies of the mails that a handler got, over all enclaves of this process."""


class AdversarialHost:
    """A host for :class:`client.InProcessTransport`, with hooks for whoever owns it.

    ``tamper`` stands between client and host: it gets an envelope, may call :meth:`honest`, and returns the answer.
    """

    def __init__(self, folder: Path, enclave: type[Enclave] = Recorder) -> None:
        self.folder = folder
        self.enclave = enclave
        self.host = self._start()
        self.tamper: Tamper = self.honest
        self.tamper_poll: Callable[[list[bytes]], list[bytes]] = lambda messages: messages
        self.sent: list[bytes] = []
        self.answered: list[bytes] = []

    # --- what the transport calls ---

    def attestation(self) -> bytes:
        return self.host.attestation()

    def deliver(self, envelope: bytes) -> Future[bytes]:
        future: Future[bytes] = Future()
        self.sent.append(envelope)
        try:
            answer = self.tamper(envelope)
        except PmapError as error:
            future.set_exception(error)
        else:
            self.answered.append(answer)
            future.set_result(answer)
        return future

    def poll(self, address: bytes) -> list[bytes]:
        return self.tamper_poll(self.host.poll(address))

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        return self.host.consistency(size1, size2)

    # --- what the adversary does ---

    def honest(self, envelope: bytes) -> bytes:
        """Do as a host should."""
        return self.host.deliver(envelope).result(20)

    def restart(self) -> None:
        """Start the enclave anew from its store."""
        self.host.restart()

    def keep_copy(self, name: str = "copy") -> Path:
        """Copy the store. The enclave is stopped for it, and runs again, in a new epoch, afterwards."""
        copy = self.folder.with_name(f"{self.folder.name}-{name}")
        self.host.close()
        shutil.copytree(self.folder, copy)
        self.host = self._start()
        return copy

    def roll_back(self, copy: Path) -> None:
        """Put a copy in the store's place."""
        self.host.close()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)
        self.host = self._start()

    def fork(self, copy: Path) -> AdversarialHost:
        """A second host that goes on from a copy."""
        return AdversarialHost(copy, self.enclave)

    def lose_request(self) -> None:
        """Drop the next request."""

        def lose(envelope: bytes) -> bytes:
            self.tamper = self.honest
            raise HostUnavailable("lost on its way to the host")

        self.tamper = lose

    def lose_reply(self, then: Callable[[], object] = lambda: None) -> None:
        """Deliver the next request, drop its reply, and do something."""

        def lose(envelope: bytes) -> bytes:
            self.tamper = self.honest
            self.honest(envelope)
            then()
            raise HostUnavailable("lost on its way back")

        self.tamper = lose

    def unreachable(self) -> None:
        """Be gone until further notice."""

        def refuse(envelope: bytes) -> bytes:
            raise HostUnavailable("nobody there")

        self.tamper = refuse

    def close(self) -> None:
        self.host.close()

    def _start(self) -> EnclaveHost:
        key = self.folder.with_name("tee.key")
        store = self.folder if self.enclave.persistent_map else None
        return EnclaveHost.start(self.enclave, store, in_process=True, simulated_key=key)


def connect(host: AdversarialHost, **settings: Any) -> EnclaveClient:
    """A client that does not wait long."""
    settings = {"constraint": "SEC:INSECURE", "retry_delays": (0.0, 0.0), **settings}
    return EnclaveClient.connect(InProcessTransport(host), **settings)
