"""Starting an enclave: on a new store, on a stored one, or without any.

Sans-I/O: the host hands over the keyring, then the records in as many pieces as it likes; the outcome is an
:class:`pmap.core.EnclaveCore`. The enclave never decides by itself that a store is new: the host says so, and whoever
knew an older store under this address sees another store id.
"""

from __future__ import annotations

from collections.abc import Iterable

from pmap.core import EnclaveCore
from pmap.enclave import Enclave, EnclaveSettings
from pmap.keyring import Keyring
from pmap.log import CommitLog
from pmap.replay import Replay
from pmap.tee import Tee
from wire.boundary import Delivery
from wire.crypto import Randomness
from wire.record import STORE_ID_BYTES


def start_new(enclave: Enclave, tee: Tee, randomness: Randomness) -> tuple[EnclaveCore, bytes, Delivery]:
    """Found a new store: the core, the keyring blob and the first record, both to be stored together.

    Raises :class:`InvalidInput` for settings that make no sense.
    """
    settings = EnclaveSettings.of(type(enclave))
    keyring = Keyring.generate(randomness)
    core = EnclaveCore(enclave, CommitLog(keyring, randomness, settings=settings.log), tee, randomness)
    return core, keyring.seal(tee.sealing_key(), randomness), core.genesis()


def start_stateless(enclave: Enclave, tee: Tee, randomness: Randomness) -> EnclaveCore:
    """Start an enclave that keeps nothing: no record ever leaves, and clients get no checkpoints."""
    # One id for all of them: there is no store to tell apart.
    keyring = Keyring(bytes(STORE_ID_BYTES), Keyring.generate(randomness).master)
    return EnclaveCore(enclave, CommitLog(keyring, randomness), tee, randomness)


class Restart:
    """Start on a stored state: feed the newest record, then the whole window in order, newest included; then finish.

    Seeing the newest record first makes the replay faster (:meth:`pmap.replay.Replay.show_last`).
    """

    def __init__(self, enclave: Enclave, tee: Tee, randomness: Randomness, untrusted_keyring: bytes) -> None:
        """Raises WrongKey, CorruptedStore, UnsupportedVersion (keyring) and InvalidInput (settings)."""
        self._enclave = enclave
        self._settings = EnclaveSettings.of(type(enclave))
        self._tee = tee
        self._randomness = randomness
        self._replay = Replay(Keyring.unseal(tee.sealing_key(), untrusted_keyring))
        self._shown = False

    def feed(self, untrusted_records: Iterable[bytes]) -> None:
        """Raises CorruptedStore and UnsupportedVersion."""
        records = iter(untrusted_records)
        if not self._shown:
            for untrusted_last in records:
                self._replay.show_last(untrusted_last)
                self._shown = True
                break
        self._replay.feed(records)

    def finish(self) -> EnclaveCore:
        """Raises CorruptedStore for an incomplete window."""
        log = self._replay.finish(self._randomness, self._settings.log)
        return EnclaveCore(self._enclave, log, self._tee, self._randomness)
