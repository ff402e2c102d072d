"""What comes together between two commits: replies that wait for the checkpoint, answers, drops.

Nothing of a turn leaves before its commit is made, and the host lets nothing leave before that is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pmap.sessions import Session
from wire.boundary import Answer, AnswerKind, Delivery, OutboxMessage, ProofWanted, Rejection, StoredCommit
from wire.crypto import Randomness
from wire.mail import Outcome, Reply, seal_issuing, seal_reply
from wire.padding import Padding


class _Pending(NamedTuple):
    """A reply to be sealed. ``position``: the item of the batch that it answers; None for an inbox mail."""

    position: int | None
    session: Session
    reply: Reply
    slot: int | None


class Mark(NamedTuple):
    """A point of a turn to go back to."""

    replies: int
    touched: int
    boxed: int


@dataclass(slots=True)
class Turn:
    """``number``: the one under which the host will keep the outbox items. ``position``: what the commit gives out, its
    root open. ``commits``: whether there is anything to commit. ``touched``: entries that wait for its root."""

    number: int
    position: bytes
    commits: bool = False
    answers: list[Answer] = field(default_factory=list)
    drops: list[tuple[int, int]] = field(default_factory=list)
    proofs: list[ProofWanted] = field(default_factory=list)
    touched: list[bytes] = field(default_factory=list)
    payload_bytes: int = 0
    _replies: list[_Pending] = field(default_factory=list)
    _boxed: int = 0

    def direct(self, position: int, session: Session, reply: Reply) -> None:
        """Answer an item with a reply that the host need not keep."""
        self._replies.append(_Pending(position, session, reply, None))
        self._count(reply)

    def boxed(self, position: int | None, session: Session, reply: Reply) -> int:
        """Answer an item (or nobody) with a reply that the host keeps until it is dropped; returns its index."""
        index = self._boxed
        self._boxed += 1
        self._replies.append(_Pending(position, session, reply, index))
        self._count(reply)
        return index

    def redeliver(self, position: int, n: int, index: int) -> None:
        """Answer an item with a reply that the host has kept."""
        self.answers.append(Answer(position, AnswerKind.BOXED, n, index))

    def reject(self, position: int, why: Rejection) -> None:
        """Answer an item with an error that cannot be authenticated."""
        self.answers.append(Answer(position, AnswerKind.REJECTED, slot=int(why)))

    def mark(self) -> Mark:
        """Where the turn is now."""
        return Mark(len(self._replies), len(self.touched), self._boxed)

    def back_to(self, mark: Mark) -> None:
        """Forget what an aborted handler queued."""
        del self._replies[mark.replies :], self.touched[mark.touched :]
        self._boxed = mark.boxed

    def seal(
        self,
        number: int,
        commit: StoredCommit | None,
        evidence: bytes,
        stable: int,
        randomness: Randomness,
        padding: Padding,
    ) -> Delivery:
        """Encrypt the replies, now that the evidence that they issue is known, and hand everything out."""
        outbox: list[OutboxMessage] = []
        answers = self.answers
        # An inbox mail that was sent and sent anew within this commit: the host drops before it adds.
        superseded = {slot for n, slot in self.drops if n == number}
        for pending in self._replies:
            reply, session, position, index = pending.reply, pending.session, pending.position, pending.slot
            if position is None and index in superseded:
                continue
            if reply.outcome is Outcome.REFUSED:
                message = seal_reply(reply, session.id, session.secret, randomness, padding)
            else:
                issued = evidence if reply.checkpoint is None else reply.checkpoint.encode()
                message = seal_issuing(reply, issued, stable, session.id, session.secret, randomness, padding)
            if index is None:
                assert position is not None
                answers.append(Answer(position, AnswerKind.DIRECT, data=message))
                continue
            outbox.append(OutboxMessage(index, session.id, message))
            if position is not None:
                answers.append(Answer(position, AnswerKind.BOXED, number, index))
        drops = [drop for drop in self.drops if drop[0] != number] if superseded else self.drops
        return Delivery(number, commit, outbox, drops, answers, self.proofs)

    def _count(self, reply: Reply) -> None:
        if reply.payload is not None:
            self.payload_bytes += len(reply.payload)
