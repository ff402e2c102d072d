"""Waiting for a store that another host serves, with the enclave started: a takeover has only to open the store.

Whatever can be found wrong without becoming the store's host is found before the waiting: an enclave that cannot be
imported, a key that does not open the store, a TEE that is not there. An enclave that ends while it waits is started
again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from host_store.channel import ChannelFactory, EnclaveChannel
from host_store.handed_over import check_not_handed_over
from host_store.store import Store
from host_store.stores.url import StoreUrl, open_store
from wire.errors import HostUnavailable, StoreMissing

_log: Final = logging.getLogger("pmap.host")

PAUSE_SECONDS: Final = 5.0
"""The least time between two starts of an enclave that does not last while it waits."""
PREPARE_SECONDS: Final = 60.0
"""How long an enclave may take to get ready; nobody looks after the store meanwhile."""


def stand_by(
    url: StoreUrl, open_channel: ChannelFactory, on_wait: Callable[[str], None] | None = None
) -> tuple[Store, WaitingEnclave]:
    """Wait until no other host serves the store, then open it; returned with the enclave that waited.

    ``on_wait`` is called with the other host's name, once, when everything is ready. If nobody serves the store, there
    is no waiting, and no enclave yet.

    Raises as :func:`host_store.stores.url.open_store` and :meth:`host_store.channel.EnclaveChannel.prepare`.
    """
    enclave = WaitingEnclave(open_channel)

    def look(other: str) -> None:
        if enclave.started:
            enclave.look_after()
            return
        enclave.start(_stored_keyring(url))
        if on_wait is not None:
            on_wait(other)

    try:
        return open_store(url, standby=True, on_wait=look), enclave
    except BaseException:
        enclave.close()
        raise


def _stored_keyring(url: StoreUrl) -> bytes | None:
    """The keyring of a store that another host serves; None while that one has not founded it."""
    try:
        with closing(open_store(url, create=False, read_only=True)) as store:
            keyring = store.keyring()
    except StoreMissing:
        return None
    check_not_handed_over(keyring)
    return keyring


class WaitingEnclave:
    """A :data:`host_store.channel.ChannelFactory` whose first channel is prepared beforehand, and waits."""

    def __init__(self, open_channel: ChannelFactory) -> None:
        self._open_channel = open_channel
        self._keyring: bytes | None = None
        self._channel: EnclaveChannel | None = None
        self._started_at = 0.0
        self._on_end: Callable[[], None] | None = None
        self.started = False

    def start(self, keyring: bytes | None) -> None:
        """Start the enclave and prepare it. Raises as :meth:`host_store.channel.EnclaveChannel.prepare`."""
        self._keyring = keyring
        self._started_at = time.monotonic()
        channel = self._open_channel(self._ended)
        limit = threading.Timer(PREPARE_SECONDS, channel.kill)
        limit.start()
        try:
            channel.prepare(keyring)
        except BaseException as error:
            channel.kill()
            channel.close()
            if isinstance(error, HostUnavailable) and time.monotonic() - self._started_at >= PREPARE_SECONDS:
                raise HostUnavailable(f"the enclave was not ready within {PREPARE_SECONDS:g} s") from error
            raise
        finally:
            limit.cancel()
        self._channel, self.started = channel, True

    def look_after(self) -> None:
        """Start it again if it has ended: at once the first time, and never twice within :data:`PAUSE_SECONDS`.

        Raises what a start would raise in vain again; that it ended once more is only logged.
        """
        if self._lives() or time.monotonic() - self._started_at < PAUSE_SECONDS:
            return
        try:
            self.start(self._keyring)
            _log.warning("the enclave that waits was started again")
        except HostUnavailable as error:
            _log.warning("the enclave that waits cannot be started: %s", error)

    def __call__(self, on_end: Callable[[], None]) -> EnclaveChannel:
        """The channel that waits, if it lives; afterwards new ones."""
        if not self._lives():
            return self._open_channel(on_end)
        channel, self._channel = self._channel, None
        assert channel is not None
        self._on_end = on_end
        return channel

    def close(self) -> None:
        """End the enclave, if it waits."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.kill()
            channel.close()

    def _lives(self) -> bool:
        channel = self._channel
        if channel is None:
            return False
        try:
            channel.check()
        except HostUnavailable as error:
            _log.warning("while the enclave waited for its store: %s", error)
            self.close()
            return False
        return True

    def _ended(self) -> None:
        on_end = self._on_end
        if on_end is not None:
            on_end()
