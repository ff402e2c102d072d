"""The smallest host for an enclave whose code, TEE and keys change between its starts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from pmap.core import EnclaveCore
from pmap.enclave import Enclave
from pmap.startup import Restart, start_new
from pmap.tee import Tee
from wire.boundary import AnswerKind, Incoming, IncomingKind
from wire.record import decode_header


class Counter(Enclave):
    """Counts the calls of its host."""

    persistent_map = True
    max_persistent_map_size = "1m"

    def receive_from_host(self, data: bytes) -> bytes:
        count = int(self.map.get("count", b"0")) + 1
        self.map["count"] = str(count).encode()
        return self.map["count"]


@dataclass
class SealedStore:
    """A keyring and every record, on somebody's disk."""

    keyring: bytes
    records: list[bytes] = field(default_factory=list)

    @classmethod
    def found(cls, enclave: type[Enclave], tee: Tee) -> SealedStore:
        _, keyring, genesis = start_new(enclave(), tee, os.urandom)
        assert genesis.commit is not None
        return cls(keyring, [genesis.commit.record])

    def copy(self) -> SealedStore:
        """A snapshot."""
        return SealedStore(self.keyring, list(self.records))

    def restart(self, enclave: type[Enclave], tee: Tee, *, rotate: bool = False) -> tuple[EnclaveCore, bytes | None]:
        """A core on what lies here, and the keyring that it asks its host to store."""
        restart = Restart(enclave(), tee, os.urandom, self.keyring, rotate=rotate)
        restart.feed([self.records[-1], *self.records[decode_header(self.records[-1]).tail - 1 :]])
        return restart.finish(), restart.new_keyring

    def call(self, core: EnclaveCore) -> bytes | None:
        """One call, its record stored."""
        (delivery,) = core.deliver([Incoming(IncomingKind.CALL, b"")])
        (answer,) = delivery.answers
        assert answer.kind is AnswerKind.CALL_DONE and delivery.commit is not None
        self.records.append(delivery.commit.record)
        return answer.data

    def count(self, enclave: type[Enclave], tee: Tee, *, rotate: bool = False) -> int:
        """Start, store the keyring if there is a new one, call once, stop."""
        core, keyring = self.restart(enclave, tee, rotate=rotate)
        self.keyring = self.keyring if keyring is None else keyring
        return int(self.call(core) or b"")
