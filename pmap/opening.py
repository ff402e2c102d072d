"""Opening records at a restart: hash and decrypt them, large ones a few ahead of the one that is being applied.

SHA-256 and AES-GCM let go of the interpreter's lock, so threads of their own do both on large records while the main
one builds the map. Small records are opened one by one: to hand one over takes longer than to open it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from queue import SimpleQueue
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmap.keyring import Keyring
from wire.crypto import NONCE_BYTES, TAG_BYTES
from wire.errors import CorruptedStore, StoreError
from wire.limits import MIB
from wire.merkle import leaf_hash
from wire.record import HEADER_BYTES, LENGTH_BYTES, Header, decode_header

_LARGE_BYTES: Final = 256 * 1024
"""A record from which on a thread's help pays."""
_AHEAD_BYTES: Final = 24 * MIB
"""Records that are opened ahead, together; a single larger one may."""
_THREADS: Final = 3
"""More than keep a processor busy: between two steps each waits for the interpreter's lock."""


class OpenedRecord:
    """A record whose header makes sense, and what was found inside. Whether it is in its place is not checked here."""

    __slots__ = ("_buffer", "_cipher", "_done", "_error", "_record", "header", "leaf")

    def __init__(self, header: Header, untrusted_record: bytes | memoryview) -> None:
        self.header = header
        self.leaf = b""
        """The leaf hash, over exactly the bytes that were decrypted."""
        self._record: bytes | memoryview | None = untrusted_record
        self._buffer: bytearray | None = None
        self._cipher: AESGCM | None = None
        self._error: BaseException | None = None
        self._done: threading.Lock | None = None

    def body(self) -> memoryview:
        """The body, authenticated: this enclave code's own bytes, and bounded by the record.

        Raises :class:`CorruptedStore` if it is not this store's, or was altered.
        """
        if isinstance(self._error, InvalidTag):
            raise CorruptedStore(
                f"record {self.header.n} was altered, or never written by this store's enclave"
            ) from self._error
        if self._error is not None:
            raise self._error
        assert self._buffer is not None
        plaintext = memoryview(self._buffer)
        length = int.from_bytes(plaintext[:LENGTH_BYTES], "big")
        return plaintext[LENGTH_BYTES : LENGTH_BYTES + length]

    def _open(self) -> None:
        record, buffer, cipher = self._record, self._buffer, self._cipher
        assert record is not None
        self._record = None
        try:
            view = memoryview(record)
            self.leaf = leaf_hash(view)
            if cipher is not None:
                assert buffer is not None
                # The last record's plaintext may have been longer: into exactly the length of this one.
                into = memoryview(buffer)[: len(view) - HEADER_BYTES - TAG_BYTES]
                nonce = self.header.n.to_bytes(NONCE_BYTES, "big")
                cipher.decrypt_into(nonce, view[HEADER_BYTES:], view[:HEADER_BYTES], into)
        except BaseException as error:  # raised by body(), in the thread that asks for it
            self._error = error


class Opener:
    """Opens the records of one store."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._ciphers: dict[bytes, AESGCM] = {}
        self._spare: list[bytearray] = []
        self._jobs: SimpleQueue[OpenedRecord | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def epochs(self) -> set[bytes]:
        """The epochs of the records so far."""
        return set(self._ciphers)

    def open(self, untrusted_records: Iterable[bytes | memoryview]) -> Generator[OpenedRecord, None, None]:
        """Each record in order, opened. It is good until the next one is asked for.

        Raises :class:`CorruptedStore` and :class:`UnsupportedVersion` for what is no record.
        """
        ahead: deque[tuple[OpenedRecord, int]] = deque()
        ahead_bytes = 0
        try:
            for untrusted_record in untrusted_records:
                length = len(untrusted_record)
                try:
                    opening = OpenedRecord(decode_header(untrusted_record), untrusted_record)
                except StoreError:
                    # Those before it have the first word.
                    yield from self._finished(ahead)
                    raise
                large = length >= _LARGE_BYTES
                while ahead and (not large or ahead_bytes + length > _AHEAD_BYTES):
                    ahead_bytes -= ahead[0][1]
                    yield from self._finished(ahead, 1)
                self._prepare(opening, length)
                if large:
                    ahead.append((opening, length))
                    ahead_bytes += length
                    self._hand_over(opening)
                else:
                    opening._open()
                    yield opening
                    self._reuse(opening)
            yield from self._finished(ahead)
        finally:
            for _ in self._threads:
                self._jobs.put(None)
            while self._threads:
                self._threads.pop().join()
            self._spare.clear()

    def _prepare(self, opening: OpenedRecord, length: int) -> None:
        epoch = opening.header.epoch
        try:
            cipher = self._ciphers.get(epoch)
            if cipher is None:
                self._ciphers[epoch] = cipher = AESGCM(self._keyring.log_key(epoch))
        except StoreError as error:
            opening._error = error
            return
        opening._cipher = cipher
        buffer = self._spare.pop() if self._spare else None
        # Many records may be ahead: if each held a much larger one's buffer, they would hold many times their own size.
        if buffer is None or len(buffer) < length or (length >= _LARGE_BYTES and len(buffer) > 2 * length):
            buffer = bytearray(length)
        opening._buffer = buffer

    def _hand_over(self, opening: OpenedRecord) -> None:
        if len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._work, name="opening records", daemon=True)
            thread.start()
            self._threads.append(thread)
        opening._done = threading.Lock()
        opening._done.acquire()
        self._jobs.put(opening)

    def _work(self) -> None:
        while (opening := self._jobs.get()) is not None:
            opening._open()
            assert opening._done is not None
            opening._done.release()
            del opening

    def _finished(self, ahead: deque[tuple[OpenedRecord, int]], count: int | None = None) -> Iterator[OpenedRecord]:
        for _ in range(len(ahead) if count is None else count):
            opening, _length = ahead.popleft()
            assert opening._done is not None
            opening._done.acquire()  # once it is done
            yield opening
            self._reuse(opening)

    def _reuse(self, opening: OpenedRecord) -> None:
        # Records of one size follow each other, so fresh memory, whose first touch costs, is rarely needed.
        if opening._buffer is not None:
            self._spare.append(opening._buffer)
            opening._buffer = None
