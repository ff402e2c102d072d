"""The new host's side of a hand-over: fetches the secrets for its enclave, then the store, and checks that they fit.

Nothing that comes over the network is believed here: the enclave checks its predecessor, the package and the records.
The old host is told that its store is history only when the enclave has run on the copy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from host_store.enclave_process import EnclaveProcess
from host_store.hand_over import MAX_MESSAGE_BYTES
from host_store.handed_over import check_not_handed_over
from host_store.lmdb.store_folder import DATA_FILE, StoreFolder
from host_store.stores.url import StoreUrl, open_store
from host_store.supervisor import window
from wire.attestation import Attestation
from wire.codec import expect, pack, unpack
from wire.errors import HostUnavailable, InvalidInput, Malformed, PmapError, StoreMissing
from wire.limits import MAX_ATTESTATION_BYTES
from wire.messages import REFUSALS, Declined

TIMEOUT_SECONDS: Final = 60.0
STORE_SECONDS: Final = 120.0
"""How long the old host may take to close its store."""
_CHUNK_BYTES: Final = 1024 * 1024
_PAUSE_SECONDS: Final = 0.2

Progress = Callable[[int, int], object]
"""Told of bytes that arrived, and of how many there are."""


class Taken(NamedTuple):
    """A store that was taken over: its id (16 bytes) and its newest commit."""

    store_id: bytes
    n: int


def take_over(
    url: str, run: Callable[[], EnclaveProcess], store_url: StoreUrl, endorsements: bytes, progress: Progress
) -> Taken:
    """Take the store over that a host offers at ``url``, into ``store_url``.

    ``run`` starts the enclave's process. ``store_url`` is a new folder; or it is the very store, or a copy of it.

    Raises:
        AttestationError, IdentityMismatch, ...: one of the two enclaves refuses the other.
        RollbackDetected, ForkDetected, CorruptedStore: the records are not those that were handed over.
        HostUnavailable, Malformed, InvalidInput, StoreError.
    """
    old = _OldHost(url)
    successor = run()
    try:
        invitation, theirs = expect(unpack(old.get("/invitation"), MAX_MESSAGE_BYTES), bytes, bytes)
        request = successor.take_over(invitation, theirs)
        keyring = successor.receive(old.post("/request", pack([request, endorsements])))
    finally:
        successor.close()
    old.wait_until_closed()
    folder = store_url.path
    if folder is not None and not (folder / DATA_FILE).exists():
        _fetch_store(old, folder, progress)
    with closing(open_store(store_url, create=False)) as store:
        check_not_handed_over(store.keyring())
        if not store.head().n:
            raise StoreMissing(f"the store {store_url.shown} is empty")
        successor = run()
        try:
            ready = successor.start(keyring, window(store, store.head()))
        finally:
            successor.close()
        store.replace_keyring(keyring if ready.keyring is None else ready.keyring)
    taken = Taken(Attestation.decode(ready.attestation).store_id, ready.n)
    try:
        old.post("/done", b"")
    except PmapError as error:
        error.add_note(
            f"The store {taken.store_id.hex()} was taken over at commit {taken.n} all the same, into"
            f" {store_url.shown}: serve it there. Only the old host may not know, so never serve its copy again."
        )
        raise
    return taken


def _fetch_store(old: _OldHost, folder: Path, progress: Progress) -> None:
    claimed = StoreFolder.claim(folder, create=True)

    def build(aside: Path) -> None:
        with (aside / DATA_FILE).open("xb") as file:
            for chunk, length in old.chunks("/store"):
                file.write(chunk)
                progress(len(chunk), length)

    try:
        claimed.make_data_file(build)
    finally:
        claimed.release()


class _OldHost:
    """The other side's server. Every method raises HostUnavailable, Malformed, and what that side declines with."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
                raise ValueError
            self._where = (parts.hostname, parts.port or 80)
        except ValueError as error:
            raise InvalidInput(f"the old host's address is http://HOST:PORT, not {url!r}") from error
        self._url = url

    def get(self, path: str) -> bytes:
        return self._ask("GET", path, None)

    def post(self, path: str, body: bytes) -> bytes:
        return self._ask("POST", path, body)

    def wait_until_closed(self) -> None:
        """Wait until the other side has left its store."""
        deadline = time.monotonic() + STORE_SECONDS
        while True:
            try:
                self.get("/closed")
                return
            except HostUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def chunks(self, path: str) -> Iterator[tuple[bytes, int]]:
        """A large body in pieces, each with the length of all."""
        connection, response = self._send("GET", path, None)
        try:
            if response.status != 200:
                raise _declined(response.status, response.read(MAX_ATTESTATION_BYTES))
            length = response.length or 0
            received = 0
            while chunk := response.read(_CHUNK_BYTES):
                received += len(chunk)
                yield chunk, length
            if received != length:
                raise HostUnavailable(f"the store broke off after {received} of {length} bytes")
        except (OSError, HTTPException) as error:
            raise self._unavailable(error) from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        connection, response = self._send(method, path, body)
        try:
            answer = response.read(MAX_MESSAGE_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise self._unavailable(error) from error
        finally:
            connection.close()
        if response.status != 200:
            raise _declined(response.status, answer)
        return answer

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[HTTPConnection, HTTPResponse]:
        connection = HTTPConnection(*self._where, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body)
            return connection, connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> HostUnavailable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return HostUnavailable(
            f"no host hands a store over at {self._url} ({reason}): there, run 'pmap serve --hand-over'"
        )


def _declined(status: int, untrusted: bytes) -> PmapError:
    try:
        name, text = json.loads(untrusted)
        if status == 503 and isinstance(text, str):
            return HostUnavailable(text)
        if name in REFUSALS and isinstance(text, str):
            error = Declined(name, text).error()
            error.add_note("This is what the old host's side says.")
            return error
    except (ValueError, TypeError, RecursionError):
        pass
    return Malformed("what answers there is no host that hands a store over")
