"""Refusing a mail before it is executed: an authenticated verdict, and the alarm where the evidence calls for one."""

from __future__ import annotations

from typing import Final

from pmap.quarantine import Quarantine
from pmap.runtime import Runtime
from pmap.sessions import Session
from wire.boundary import ProofWanted
from wire.checkpoint import Checkpoint
from wire.errors import EvidenceUnproven, FreshnessError, LimitExceeded, NotEnrolled, PmapError
from wire.limits import MAX_UNPROVEN_CLAIMS
from wire.mail import Outcome, Reply
from wire.refusal import encode_refusal

REFUSED: Final = (FreshnessError, NotEnrolled, LimitExceeded)
"""What the checks before a handler raise."""


class Refusals:
    """``unproven``: the sizes of which signed evidence was shown and this history's root is not known."""

    __slots__ = ("_quarantine", "_runtime", "unproven")

    def __init__(self, runtime: Runtime, quarantine: Quarantine) -> None:
        self._runtime = runtime
        self._quarantine = quarantine
        self.unproven: set[int] = set()

    def refuse(
        self, position: int, session: Session, in_reply_to: bytes, topic: str, sequence: int, error: PmapError
    ) -> None:
        """Answer item ``position`` with the verdict. It makes no commit, but for the quarantine's own."""
        turn, log = self._runtime.turn, self._runtime.log
        if isinstance(error, EvidenceUnproven) and error.checkpoint is not None:
            self._want_proof(position, error.checkpoint)
        elif isinstance(error, FreshnessError) and error.checkpoint is not None:
            self._quarantine.sound(error, error.checkpoint, turn)
        payload = encode_refusal(error, log.checkpoint)
        turn.direct(position, session, Reply(Outcome.REFUSED, topic, sequence, in_reply_to, None, 0, payload))

    def _want_proof(self, position: int, claim: Checkpoint) -> None:
        if len(self.unproven) < MAX_UNPROVEN_CLAIMS:
            self.unproven.add(claim.size)
        if claim.size in self.unproven:
            self._runtime.turn.proofs.append(ProofWanted(position, claim.size))
