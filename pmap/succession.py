"""The two sides of a hand-over (:mod:`pmap.handover`) as their hosts drive them.

A host brings its platform's endorsements along; they are signed by the vendor. What is *decided* about the other side
stands in the enclave's code: its constraints, the roots that it trusts beside those built in, the least firmware.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from pmap.core import EnclaveCore
from pmap.enclave import Enclave, EnclaveSettings
from pmap.handover import Predecessor
from pmap.startup import receive_store, take_over_store
from pmap.tee import Tee
from wire.crypto import Randomness
from wire.errors import InvalidInput
from wire.identity import Identity
from wire.tee.endorsements import NO_ENDORSEMENTS, Endorsements
from wire.tee.verify import verify_evidence

Clock: TypeAlias = Callable[[], float]
"""Unix seconds. The host sets it: see :mod:`pmap.handover`."""


class _PeerVerifier:
    """A :data:`pmap.handover.EvidenceVerifier`, with the endorsements that came with the last message."""

    def __init__(self, settings: EnclaveSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._endorsements = NO_ENDORSEMENTS

    def take(self, untrusted_endorsements: bytes) -> None:
        settings = self._settings
        self._endorsements = Endorsements.decode(
            untrusted_endorsements, settings.vendor_roots, settings.least_amd_firmware
        )

    def __call__(self, kind: str, untrusted_evidence: bytes, report_data: bytes) -> Identity:
        return verify_evidence(kind, untrusted_evidence, report_data, self.now(), self._endorsements)

    def now(self) -> int:
        return int(self._clock())


class HandingOver:
    """The side of a running enclave."""

    def __init__(self, core: EnclaveCore, randomness: Randomness, clock: Clock = time.time) -> None:
        self._core = core
        self._randomness = randomness
        self._verifier = _PeerVerifier(core.settings, clock)
        self._predecessor: Predecessor | None = None

    def invite(self) -> bytes:
        """The first message. An earlier one is given up.

        Raises :class:`InvalidInput` for an enclave that hands its store to nobody, or keeps none.
        """
        core = self._core
        if core.settings.successors is None:
            raise InvalidInput("this enclave hands its store to nobody: its class names no successors")
        if not core.settings.persistent:
            raise InvalidInput("this enclave keeps no state: there is nothing to hand over")
        self._predecessor = Predecessor(
            core.keyring, core.tee, core.settings.successors, self._verifier, self._randomness
        )
        return self._predecessor.invitation

    def hand_over(self, untrusted_request: bytes, untrusted_endorsements: bytes) -> bytes:
        """The package for a good successor; this enclave must not go on afterwards. Raises as
        :meth:`pmap.handover.Predecessor.answer`, and then it may go on."""
        if self._predecessor is None:
            raise InvalidInput("there is no request before an invitation")
        self._verifier.take(untrusted_endorsements)
        return self._predecessor.answer(untrusted_request, self._verifier.now(), self._core.head)


class TakingOver:
    """The side of an enclave that has no store yet."""

    def __init__(self, enclave: type[Enclave], tee: Tee, randomness: Randomness, clock: Clock = time.time) -> None:
        """Raises :class:`InvalidInput` for an enclave that takes no store over."""
        self._enclave = enclave
        self._tee = tee
        self._randomness = randomness
        self._verifier = _PeerVerifier(EnclaveSettings.of(enclave), clock)
        self._successor = take_over_store(enclave, tee, self._verifier, randomness)

    def request(self, untrusted_invitation: bytes, untrusted_endorsements: bytes) -> bytes:
        """Raises as :meth:`pmap.handover.Successor.request`."""
        self._verifier.take(untrusted_endorsements)
        return self._successor.request(untrusted_invitation, self._verifier.now())

    def receive(self, untrusted_package: bytes) -> bytes:
        """The keyring, sealed for this enclave. Raises as :meth:`pmap.handover.Successor.receive`."""
        return receive_store(self._successor, untrusted_package, self._enclave, self._tee, self._randomness)
