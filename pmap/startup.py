"""Starting an enclave: on a new store, on a stored one, or without any.

Sans-I/O: the host hands over the keyring, then the records in as many pieces as it likes; the outcome is an
:class:`pmap.core.EnclaveCore`. The enclave never decides by itself that a store is new: the host says so, and whoever
knew an older store under this address sees another store id.
"""

from __future__ import annotations

from collections.abc import Iterable

from pmap.core import EnclaveCore
from pmap.enclave import Enclave, EnclaveSettings
from pmap.handover import EvidenceVerifier, Predecessor, Successor
from pmap.keyring import Keyring
from pmap.log import CommitLog
from pmap.replay import Replay
from pmap.rotation import check_generation, note_generation
from pmap.tee import Tee
from pmap.version_floor import enforce_version_floor
from wire.boundary import Delivery
from wire.crypto import Randomness
from wire.errors import InvalidInput
from wire.record import STORE_ID_BYTES


def start_new(enclave: Enclave, tee: Tee, randomness: Randomness) -> tuple[EnclaveCore, bytes, Delivery]:
    """Found a new store: the core, the keyring blob and the first record, both to be stored together.

    Raises :class:`InvalidInput` for settings that make no sense.
    """
    settings = EnclaveSettings.of(type(enclave))
    keyring = Keyring.generate(randomness)
    log = CommitLog(keyring, randomness, settings=settings.log)
    enforce_version_floor(log.entries, settings.security_version)
    core = EnclaveCore(enclave, log, tee, randomness)
    return core, keyring.seal(tee.sealing_key(settings.seal_to), randomness), core.genesis()


def start_stateless(enclave: Enclave, tee: Tee, randomness: Randomness) -> EnclaveCore:
    """Start an enclave that keeps nothing: no record ever leaves, and clients get no checkpoints."""
    # One id for all of them: there is no store to tell apart.
    keyring = Keyring(bytes(STORE_ID_BYTES), Keyring.generate(randomness).master)
    return EnclaveCore(enclave, CommitLog(keyring, randomness), tee, randomness)


class Restart:
    """Start on a stored state: feed the newest record, then the whole window in order, newest included; then finish.

    Seeing the newest record first makes the replay faster (:meth:`pmap.replay.Replay.show_last`).
    ``rotate``: encrypt from now on under a new generation of the store's key.
    """

    def __init__(
        self, enclave: Enclave, tee: Tee, randomness: Randomness, untrusted_keyring: bytes, *, rotate: bool = False
    ) -> None:
        """Raises WrongKey, CorruptedStore, UnsupportedVersion (keyring) and InvalidInput (settings)."""
        self._enclave = enclave
        self._settings = EnclaveSettings.of(type(enclave))
        self._tee = tee
        self._randomness = randomness
        self._shown = False
        self._rotate = rotate
        self._sealing_key = tee.sealing_key(self._settings.seal_to)
        self._keyring = Keyring.unseal(self._sealing_key, untrusted_keyring)
        self._replay = Replay(self._keyring)
        self.new_keyring: bytes | None = None
        """After :meth:`finish`: what the host must put in the keyring's place before it stores another record."""

    def feed(self, untrusted_records: Iterable[bytes | memoryview]) -> None:
        """Raises CorruptedStore and UnsupportedVersion."""
        records = iter(untrusted_records)
        if not self._shown:
            for untrusted_last in records:
                self._replay.show_last(untrusted_last)
                self._shown = True
                break
        self._replay.feed(records)

    def finish(self) -> EnclaveCore:
        """The running core.

        Raises:
            CorruptedStore: an incomplete window.
            RollbackDetected: the records end before the last rotation of the store's key.
            ForkDetected: at that rotation, their history was another.
            DowngradeRefused: newer code has written this state.
            LimitExceeded: a rotation while records of too many older generations are still needed.
        """
        log = self._replay.finish(self._randomness, self._settings.log)
        check_generation(log.entries, self._keyring, log.n, log.history.root)
        enforce_version_floor(log.entries, self._settings.security_version)
        keyring = self._keyring.retired(self._replay.epochs)
        if self._rotate:
            keyring = keyring.rotated(self._randomness, log.n, log.history.root)
            log.begin_epoch(keyring, self._randomness)
        note_generation(log.entries, keyring)
        if keyring != self._keyring:
            # A crash before it is stored leaves the old keyring and no record that needs the new one; after it, both
            # generations are there: so either way the store opens.
            self.new_keyring = keyring.seal(self._sealing_key, self._randomness)
        return EnclaveCore(self._enclave, log, self._tee, self._randomness)


def receive_store(
    successor: Successor, untrusted_package: bytes, enclave: type[Enclave], tee: Tee, randomness: Randomness
) -> bytes:
    """End a hand-over: the keyring, sealed for this enclave, for its host to store beside a copy of the records.

    Raises as :meth:`pmap.handover.Successor.receive`.
    """
    keyring = successor.receive(untrusted_package)
    return keyring.seal(tee.sealing_key(EnclaveSettings.of(enclave).seal_to), randomness)


def hand_over_store(
    untrusted_keyring: bytes, enclave: type[Enclave], tee: Tee, verifier: EvidenceVerifier, randomness: Randomness
) -> Predecessor:
    """Begin to hand a store over, which this very enclave can open.

    Raises WrongKey, CorruptedStore, UnsupportedVersion (keyring) and InvalidInput (no successors allowed).
    """
    settings = EnclaveSettings.of(enclave)
    if settings.successors is None:
        raise InvalidInput(f"{enclave.__name__} hands its store to nobody: its class names no successors")
    keyring = Keyring.unseal(tee.sealing_key(settings.seal_to), untrusted_keyring)
    return Predecessor(keyring, tee, settings.successors, verifier, randomness)


def take_over_store(enclave: type[Enclave], tee: Tee, verifier: EvidenceVerifier, randomness: Randomness) -> Successor:
    """Begin to take a store over. Raises InvalidInput for an enclave that takes none."""
    settings = EnclaveSettings.of(enclave)
    if settings.predecessors is None:
        raise InvalidInput(f"{enclave.__name__} takes no store over: its class names no predecessors")
    return Successor(tee, settings.predecessors, verifier, randomness)
