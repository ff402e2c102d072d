"""The enclave's thread: hands batches over, has what comes back stored and answered, and keeps an enclave running, one
incarnation (epoch) after the other.

One thread for both, because each step from thread to thread costs a mail more than the step itself. A batch's last
delivery is stored when the enclave has the next batch to work on, so the disk and the enclave work at the same time. If
no next one waits then, it is stored at once. Where the store takes long (:data:`SLOW_STORE_SECONDS`), another thread
waits for it (:mod:`host_store.store_thread`), and this one gathers the next batch meanwhile; it is never more than one
ahead.

An incarnation ends when its process dies, when it breaks the protocol, or when the store could not keep what it
did. Then everything on its way is failed or finished, and the next one is started from the store: at once the first
time, after a growing pause when that does not last. What cannot get better by itself (anything but
:data:`RECOVERABLE`) ends the host instead: another host took the store over, the key does not fit, the store is
corrupted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from host_store.channel import ChannelFactory, EnclaveChannel
from host_store.gathering import Gathering
from host_store.handed_over import check_not_handed_over
from host_store.intake import Intake, Item, again
from host_store.store import Head, Store
from host_store.store_thread import StoreThread
from host_store.writer import Batch, Writer
from wire.attestation import Attestation
from wire.boundary import Delivery
from wire.errors import (
    CorruptedStore,
    HostUnavailable,
    InvalidInput,
    Malformed,
    PmapError,
    ProofInvalid,
    StoreHandedOver,
    StoreUnavailable,
)
from wire.messages import Ready

_log: Final = logging.getLogger("pmap.host")

RECOVERABLE: Final = (HostUnavailable, StoreUnavailable, Malformed)
"""What ends an incarnation only; every other error ends the host."""
FIRST_PAUSE_SECONDS: Final = 0.1
"""Pause before the second start in a row; it doubles with each further one."""
LONGEST_PAUSE_SECONDS: Final = 5.0
LASTING_SECONDS: Final = 10.0
"""An incarnation that lived this long is no part of a row of failures."""
KILL_SECONDS: Final = 5.0
"""How long the end of a killed enclave is waited for. In this process a handler that hangs cannot be killed."""
EVIDENCE_SECONDS: Final = 3600.0
"""How old evidence may be before another client gets new one: a Nitro document holds for about three hours."""
PIPELINE_BATCHES: Final = 2
"""Batches between enclave and durable store at one time: one being stored, one being worked on."""
SLOW_STORE_SECONDS: Final = 0.001
"""From so long an append on, a thread that waits for it costs less than mails that wait behind it."""
_LOOK_SECONDS: Final = 0.1
_Answer = TypeVar("_Answer")


class _Unstored(NamedTuple):
    """The last delivery of a batch, which waits until the enclave has the next one to work on."""

    delivery: Delivery
    batch: Batch
    begun: float


class _Wanted(NamedTuple):
    """A new epoch that somebody asked for; ``begun`` is set when it runs, or when there will be none."""

    rotate: bool
    begun: threading.Event


class _NewEpoch(HostUnavailable):
    """Somebody asked for one; the enclave is at work on nothing."""


class State(Enum):
    """Where a host stands."""

    RUNNING = "running"
    RESTARTING = "restarting"
    FAILED = "failed"
    CLOSED = "closed"


class Supervisor:
    """Owns the channel. :meth:`start` first, :meth:`stop` last."""

    def __init__(
        self, open_channel: ChannelFactory, store: Store | None, intake: Intake, *, rotate: bool = False
    ) -> None:
        """``rotate``: begin the first incarnation, if it finds a store, with a new key."""
        self._open_channel = open_channel
        self._store = store
        self._intake = intake
        self._writer = Writer(store, intake)
        self._unstored: _Unstored | None = None
        self._aside = StoreThread(self._store_now, self._fail, intake.interrupt)
        self._store_is_slow = False
        self._batch_seconds = 0.0  # how long the last batch took, from the enclave to the disk
        self._channel: EnclaveChannel | None = None
        self._attestation: Attestation | None = None
        self._document = b""
        self._closing = threading.Event()
        self._one_restart = threading.Lock()
        self._wanted: _Wanted | None = None  # somebody waits for it
        self._rotate = rotate
        self._questions: deque[tuple[Callable[[EnclaveChannel], Any], Future[Any]]] = deque()
        self._evidence_at = 0.0
        self._thread = threading.Thread(target=self._run, name="enclave", daemon=True)
        self._gathering = Gathering()
        self._left = False  # the store is the successor's
        self._failures = 0
        self._started = 0.0
        self.state = State.RESTARTING
        self.starts = 0
        self.failure: PmapError | None = None
        """Why the host stopped for good, or why the enclave is being started anew."""

    # --- for the host's caller ---

    @property
    def writer(self) -> Writer:
        """The way out."""
        return self._writer

    @property
    def attestation(self) -> Attestation | None:
        """The running incarnation's document."""
        return self._attestation

    @property
    def pid(self) -> int | None:
        """The running incarnation's process, if it has one of its own."""
        channel = self._channel
        return None if channel is None or self.state is not State.RUNNING else channel.pid

    def document(self) -> bytes:
        """The running incarnation's attestation, encoded. Raises :class:`PmapError` while there is none."""
        if self.state is not State.RUNNING:
            raise HostUnavailable(f"the enclave is not running: {self.failure or self.state.value}")
        if time.monotonic() - self._evidence_at > EVIDENCE_SECONDS:
            self._evidence_at = time.monotonic()  # if it fails, it is not tried again for every client that comes
            try:
                self.ask(self._renew_evidence)
            except PmapError as error:
                _log.warning("the enclave makes no new evidence: %s", error)
        return self._document

    def _renew_evidence(self, channel: EnclaveChannel) -> None:
        self._document = channel.attest()

    def start(self) -> None:
        """Start the first incarnation and the thread. Raises as :meth:`EnclaveChannel.start` and the store do."""
        self._begin_epoch()
        self._thread.start()

    def ask(self, question: Callable[[EnclaveChannel], _Answer]) -> _Answer:
        """Put a question to the running enclave, between two batches, when all that it did is durable.

        Raises what the question raises, and :class:`HostUnavailable` where nobody can be asked.
        """
        future: Future[_Answer] = Future()
        self._questions.append((question, future))
        self._intake.interrupt()
        while self._thread.is_alive():
            with suppress(TimeoutError):
                return future.result(_LOOK_SECONDS)
        self._leave_unanswered()
        return future.result(_LOOK_SECONDS)  # another one that was late may be about to answer it

    def restart(self, *, rotate: bool = False) -> None:
        """Finish what is on its way, then begin a new epoch from the store; ``rotate``: with a new key.

        Raises what kept it from running.
        """
        with self._one_restart:
            wanted = self._wanted = _Wanted(rotate, threading.Event())
            self._intake.interrupt()
            while not wanted.begun.wait(_LOOK_SECONDS) and self._thread.is_alive():
                pass
        if self.state is not State.RUNNING:
            raise self.failure or HostUnavailable("the host was closed")

    def stop(self, drain_seconds: float) -> None:
        """Finish what is on its way, at most for so long, then end enclave and threads. Again is fine."""
        self._closing.set()
        self._intake.close()
        self._thread.join(drain_seconds)
        if self._thread.is_alive() and (channel := self._channel) is not None:
            channel.kill()
            self._thread.join(KILL_SECONDS)

    def hand_over(self, request: bytes, endorsements: bytes) -> bytes:
        """The package for a successor; the host then ends with :class:`StoreHandedOver`.

        Raises as :meth:`EnclaveChannel.hand_over`, and then it goes on.
        """

        def question(channel: EnclaveChannel) -> bytes:
            package = channel.hand_over(request, endorsements)
            self._left = True
            return package

        return self.ask(question)

    # --- the enclave's thread ---

    def _run(self) -> None:
        try:
            while self.state is State.RUNNING:
                try:
                    self._serve()
                    break
                except PmapError as error:
                    self._recover(error)
        except Exception as error:
            # Nothing in here may end the thread unseen: every waiting client would wait for ever.
            _log.exception("the enclave's thread broke down")
            self._give_up(HostUnavailable(f"the host broke down: {type(error).__name__}: {error}"))
        finally:
            with suppress(PmapError):
                self._flush()
            self._aside.stop()
            self._end_epoch(in_order=self.state is State.RUNNING)
            if self.state is not State.FAILED:
                self.state = State.CLOSED
            self._intake.refuse(self.failure or HostUnavailable("the host was closed: nothing was done"))
            self._answer(self._wanted)
            self._leave_unanswered()

    def _serve(self) -> None:
        """Serve until the intake is closed and empty. Raises what ends the incarnation."""
        channel, intake, gathering = self._channel, self._intake, self._gathering
        assert channel is not None
        while True:
            if self._unstored is None:
                self._aside.wait(left=PIPELINE_BATCHES - 1)
                items = intake.take(gathering.wanted, gathering.patience(self._batch_seconds))
            elif self._store_is_slow or not (items := intake.take_now(gathering.enough)):
                self._store_last()
                continue
            if items:
                self._deliver(channel, items)
                continue
            self._flush()  # which may put an item back
            if items is None:
                if not len(intake):
                    return
            elif self._wanted is not None:
                raise _NewEpoch("a new epoch was asked for")
            else:
                channel.check()
                self._answer_questions(channel)

    def _deliver(self, channel: EnclaveChannel, items: list[Item]) -> None:
        """Hand a batch over, and have the last one stored while the enclave works on it."""
        writer = self._writer
        batch: Batch = list(items)
        begun = time.monotonic()
        self._gathering.took(len(items), overlapping=self._aside.busy or self._unstored is not None)
        last: _Unstored | None = None
        try:
            for item in items:
                if item.lesson is not None:
                    _teach(channel, item)
            deliveries = channel.deliver([item.incoming for item in items])
            self._store_last()
            for delivery in deliveries:
                if last is not None:
                    self._aside.wait()
                    writer.carry_out(last.delivery, batch)
                last = _Unstored(delivery, batch, begun)
        except Exception as error:
            writer.finish(batch, error)
            raise
        if last is None:
            writer.finish(batch, None)
        self._unstored = last

    # --- storing ---

    def _store_last(self) -> None:
        """Have the last batch's last delivery stored, if it waits: at once, or by a thread of its own where that takes
        long. Raises what ends the incarnation."""
        unstored, self._unstored = self._unstored, None
        if unstored is None:
            return
        try:
            if self._store_is_slow:
                self._aside.put(unstored)
                return
            self._aside.wait()
        except Exception as error:
            self._fail(unstored, error)
            raise
        self._store_now(unstored)

    def _flush(self) -> None:
        """Have everything stored that came from the enclave. Raises what ends the incarnation."""
        self._store_last()
        self._aside.wait()

    def _store_now(self, unstored: _Unstored) -> None:
        """Raises :class:`PmapError` only."""
        begun = time.monotonic()
        try:
            self._writer.carry_out(unstored.delivery, unstored.batch)
        except PmapError as error:
            self._fail(unstored, error)
            raise
        now = time.monotonic()
        self._store_is_slow = now - begun > SLOW_STORE_SECONDS
        self._batch_seconds = now - unstored.begun
        self._writer.finish(unstored.batch, None)

    def _fail(self, unstored: _Unstored, error: Exception) -> None:
        self._writer.finish(unstored.batch, error)

    # --- epochs ---

    def _begin_epoch(self) -> None:
        """Start an incarnation from the store. Raises and leaves none behind if that does not work."""
        store = self._store
        keyring = None if store is None else store.keyring()
        check_not_handed_over(keyring)
        head = None if store is None else store.head()
        if head is not None and head.n and keyring is None:
            raise CorruptedStore("the store has records but no keyring: it was removed")
        channel = self._channel = self._open_channel(self._intake.interrupt)
        try:
            records = () if store is None or head is None else window(store, head)
            rotate = self._rotate and keyring is not None
            ready = channel.start(keyring, records, rotate=True) if rotate else channel.start(keyring, records)
            attestation = Attestation.decode(ready.attestation)
            if attestation.persistent and keyring is None:
                _found(store, ready)
            self._aside.begin_epoch()
            self._writer.begin_epoch(persistent=attestation.persistent)
            if attestation.persistent and ready.n != self._writer.n:
                raise Malformed(f"the enclave is at commit {ready.n}, the store at {self._writer.n}")
            if keyring is not None and ready.keyring is not None:
                _replace_keyring(store, ready)
            self._rotate = False  # only now: a rotation that was not stored is none
        except BaseException:
            self._end_epoch(in_order=False)
            raise
        self._attestation, self._document = attestation, ready.attestation
        self._evidence_at = time.monotonic()
        self.starts += 1
        self._started = time.monotonic()
        self._intake.accept()  # before the state says so: who sees it running is not refused any more
        self.state, self.failure = State.RUNNING, None

    def _end_epoch(self, *, in_order: bool) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            if not in_order:
                channel.kill()
            channel.close()

    def _recover(self, error: PmapError) -> None:
        """After an incarnation's end: have the next one running, or the state changed to FAILED or CLOSED."""
        asked = isinstance(error, _NewEpoch)
        if not asked:
            _log.warning("the enclave's incarnation ended: %s", error)
            lasted = time.monotonic() - self._started >= LASTING_SECONDS
            self._failures = 0 if lasted else self._failures + 1
        try:
            self._flush()
        except PmapError as caught:
            error = caught
        self.state, self.failure = State.RESTARTING, error
        self._end_epoch(in_order=asked)
        while isinstance(error, RECOVERABLE):
            self._pause(error)
            if self._closing.is_set():
                self.state = State.CLOSED
                return
            wanted = self._wanted  # one that is asked for from here on needs another start: this one may not rotate
            self._rotate = self._rotate or (wanted is not None and wanted.rotate)
            try:
                self._begin_epoch()
            except PmapError as caught:
                error = self.failure = caught
                self._failures += 1
                _log.warning("the enclave cannot be started: %s", error)
                continue
            self._answer(wanted)
            self._intake.interrupt()  # one interruption may have stood for several who asked for something
            return
        self._give_up(error)

    def _pause(self, error: PmapError) -> None:
        """Before a start that follows another one too soon. Nobody is left waiting for it."""
        if self._failures > 1:
            seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 2), LONGEST_PAUSE_SECONDS)
            self._intake.refuse(HostUnavailable(f"the enclave is down, next try in {seconds:g} s: {error}"))
            self._closing.wait(seconds)

    def _give_up(self, error: PmapError) -> None:
        self.state, self.failure = State.FAILED, error

    def _answer_questions(self, channel: EnclaveChannel) -> None:
        """Raises what ends the incarnation, or the host."""
        while self._questions:
            question, future = self._questions.popleft()
            try:
                future.set_result(question(channel))
            except PmapError as error:
                future.set_exception(again(error))
                if isinstance(error, HostUnavailable):
                    raise
            except Exception as error:
                future.set_exception(HostUnavailable(f"the host broke down: {type(error).__name__}"))
                raise
            if self._left:
                raise StoreHandedOver("the store was handed over to its successor, and is served there from now on")

    def _leave_unanswered(self) -> None:
        reason = self.failure or HostUnavailable("the host was closed")
        with suppress(IndexError):
            while True:
                _, future = self._questions.popleft()
                future.set_exception(again(reason))

    def _answer(self, wanted: _Wanted | None) -> None:
        if wanted is not None:
            self._wanted = None  # before its caller, or the next one, can ask again
            wanted.begun.set()


def _teach(channel: EnclaveChannel, item: Item) -> None:
    lesson = item.lesson
    assert lesson is not None
    with suppress(ProofInvalid):  # the item goes again all the same, and gets the enclave's own verdict
        channel.learn(*lesson)


def window(store: Store, head: Head) -> Iterator[bytes]:
    """What a restart reads: the newest record, then all of them in order."""
    if head.n:
        yield from store.read(head.n, head.n + 1)
        yield from store.read(head.first, head.n + 1)


def _replace_keyring(store: Store | None, ready: Ready) -> None:
    """Store a keyring whose generations have changed. Raises :class:`StoreError`.

    Before the epoch takes a batch, so before its first append: a record whose key is in no stored keyring is lost.
    """
    if store is None or ready.keyring is None or ready.genesis is not None:
        raise Malformed("on a stored state the enclave may give a keyring only, and no first record")
    store.replace_keyring(ready.keyring)


def _found(store: Store | None, ready: Ready) -> None:
    """Store what a new store begins with. Raises :class:`StoreError`, and :class:`InvalidInput` if there is none."""
    if store is None:
        raise InvalidInput("this enclave keeps state: name a store for it")
    genesis = ready.genesis
    if ready.keyring is None or genesis is None or genesis.commit is None or genesis.commit.n != 1:
        raise Malformed("a new store begins with a keyring and record 1; the enclave gave something else")
    # In one transaction: with a keyring alone, or a record alone, no later start could go on.
    store.create(ready.keyring, genesis.commit.record, genesis.commit.leaf)
