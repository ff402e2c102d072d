"""The way out: makes each delivery durable, and only then lets its answers go.

Deliveries are carried out strictly in the order in which they came from the enclave. Once one could not be stored,
nothing behind it may leave either: the enclave's memory is then ahead of the store, and only a new epoch, started from
the store, can go on.
"""

from __future__ import annotations

import logging
import time
from typing import Final, Protocol, TypeAlias

from host_store.intake import Intake, Item, Lesson, again
from host_store.outbox_memory import MemoryOutbox
from host_store.store import OutboxItem, Store
from wire.boundary import Answer, AnswerKind, Delivery, IncomingKind, Rejection
from wire.errors import (
    HandlerFailed,
    HostUnavailable,
    InvalidInput,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    StoreError,
    StoreUnavailable,
    Undecryptable,
)
from wire.merkle import prove_consistency, tree_root

APPEND_ATTEMPTS: Final = 5
"""How often the same bytes are offered to a store that is unavailable."""
FIRST_RETRY_SECONDS: Final = 0.05
"""Pause before the second attempt; it doubles with each further one."""

_log: Final = logging.getLogger("pmap.host")

Batch: TypeAlias = list[Item | None]
"""The items of one batch by position; None: answered."""


class _Outbox(Protocol):
    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]: ...

    def outbox_item(self, n: int, index: int) -> OutboxItem | None: ...


class Writer:
    """All methods but :meth:`poll` are for the one thread that talks to the enclave."""

    def __init__(self, store: Store | None, intake: Intake) -> None:
        """Nothing may be carried out before :meth:`begin_epoch`."""
        self._given_store = store
        self._store: Store | None = None
        self._memory = MemoryOutbox()
        self._outbox: _Outbox = self._memory
        self._intake = intake
        self.n = 0
        """The newest durable commit."""

    def begin_epoch(self, *, persistent: bool) -> None:
        """A new incarnation was started, from the store if it keeps state at all.

        Raises :class:`StoreError`.
        """
        self._store = store = self._given_store if persistent else None
        self._outbox = self._memory if store is None else store
        self.n = 0 if store is None else store.head().n
        self._memory.begin_epoch()

    def poll(self, address: bytes) -> list[bytes]:
        """What waits for one session, oldest first. Raises :class:`StoreError`."""
        return [item.message for item in self._outbox.outbox(address)]

    def carry_out(self, delivery: Delivery, batch: Batch) -> None:
        """Store a delivery, then answer the items that it answers.

        Raises :class:`PmapError`: nothing more of this epoch may leave.
        """
        try:
            self._carry_out(delivery, batch)
        except PmapError:
            raise
        except Exception as error:
            _log.exception("a delivery could not be carried out")
            raise HostUnavailable(f"the host broke down: {type(error).__name__}") from error

    def finish(self, batch: Batch, error: Exception | None) -> None:
        """After the batch's last delivery: whoever has no answer gets ``error``.

        Raises :class:`Malformed`: somebody has none, and there is no error.
        """
        unanswered = [item for item in batch if item is not None]
        if not unanswered:
            return
        reason = error or Malformed("the enclave gave no answer")
        for item in unanswered:
            failed = HostUnavailable(f"the outcome is unknown, ask again or recover: {reason}")
            failed.__cause__ = reason
            item.promise.set_exception(failed)
        if error is None:
            raise reason

    def _carry_out(self, delivery: Delivery, batch: Batch) -> None:
        self._keep(delivery)
        here = {message.slot: message.message for message in delivery.outbox}
        wanted = dict(delivery.proofs)
        for answer in delivery.answers:
            position = answer.position
            item = batch[position] if position < len(batch) else None
            if item is None:
                raise Malformed("the enclave answered an item twice, or one that it was not given")
            if wanted and item.lesson is None and position in wanted and self._teach(item, wanted[position]):
                pass
            elif answer.kind is AnswerKind.BOXED and answer.n == delivery.number and answer.slot in here:
                item.promise.set_result(here[answer.slot])
            elif answer.kind is AnswerKind.DIRECT and answer.data is not None:
                item.promise.set_result(answer.data)
            else:
                self._answer_otherwise(item, answer)
            batch[position] = None

    # --- effects ---

    def _keep(self, delivery: Delivery) -> None:
        """Make everything that the delivery changes durable."""
        commit = delivery.commit
        if commit is None and not delivery.outbox and not delivery.drops:
            return
        number = delivery.number
        outbox = [OutboxItem(number, slot, address, message) for slot, address, message in delivery.outbox]
        if self._store is None:
            if commit is not None:
                raise InvalidInput("an enclave that keeps state needs a store")
            self._memory.change(outbox, delivery.drops)
            return
        if commit is None or commit.n != number:
            raise Malformed("the enclave wants something kept without a commit")
        pause = FIRST_RETRY_SECONDS
        for attempt in range(1, APPEND_ATTEMPTS + 1):
            try:
                # A record is made once: whatever became of the last attempt, these same bytes are the right ones.
                self._store.append(
                    commit.n, commit.record, commit.leaf, trim=commit.tail, outbox=outbox, drops=delivery.drops
                )
                break
            except StoreUnavailable:
                if attempt == APPEND_ATTEMPTS:
                    raise
                time.sleep(pause)
                pause *= 2
        self.n = number

    def _answer_otherwise(self, item: Item, answer: Answer) -> None:
        promise, kind, data = item.promise, answer.kind, answer.data
        if (item.incoming.kind is IncomingKind.CALL) != (kind in (AnswerKind.CALL_DONE, AnswerKind.CALL_FAILED)):
            raise Malformed("the enclave answered a mail as a call, or a call as a mail")
        if kind is AnswerKind.BOXED:
            try:
                kept = self._outbox.outbox_item(answer.n, answer.slot)
            except StoreError as error:
                promise.set_exception(HostUnavailable(f"cannot read the reply from the store: {error}"))
                return
            if kept is None:
                promise.set_exception(ReplyWithheld("the mail was executed, but the store has its reply no more"))
            else:
                promise.set_result(kept.message)
        elif kind is AnswerKind.CALL_DONE:
            promise.set_result(data)
        elif kind is AnswerKind.CALL_FAILED:
            promise.set_exception(HandlerFailed((data or b"").decode(errors="replace")))
        elif kind is AnswerKind.REJECTED and answer.slot in _REJECTIONS:
            promise.set_exception(again(_REJECTIONS[answer.slot]))
        else:
            raise Malformed("the enclave answered a mail with nothing")

    def _teach(self, item: Item, size: int) -> bool:
        """Let the item go again, with the proof that was missing. False if there is no proof to be had."""
        store = self._store
        if store is None:
            return False
        try:
            item.lesson = Lesson(size, tree_root(size, store.node), self.n, prove_consistency(size, self.n, store.node))
        except (StoreError, InvalidInput):
            return False
        self._intake.put_back(item)
        return True


_REJECTIONS: Final[dict[int, PmapError]] = {
    Rejection.MALFORMED: Malformed("not a mail or hello of this version"),
    Rejection.SESSION_UNKNOWN: SessionUnknown("the enclave does not know this session: say hello again"),
    Rejection.UNDECRYPTABLE: Undecryptable("the enclave cannot decrypt this, or it was altered on its way"),
}
