"""Quarantine: what happens once a client has proved a rollback or fork. Sticky: it is an entry of the log.

From then on nothing is executed, in this epoch or a later one of this history, and every client is told, with the
alarm as portable evidence. (A host that rolls back once more, to before the alarm, meets the same clients again.)
"""

from __future__ import annotations

from typing import Final

from pmap.entries import META
from pmap.log import CommitLog
from pmap.turn import Turn
from wire.alarm import Alarm, Verdict
from wire.checkpoint import Checkpoint
from wire.errors import ForkDetected, FreshnessError, RollbackDetected

_KEY: Final = META + b"quarantine"


class Quarantine:
    """The alarm of one store, if there is one."""

    __slots__ = ("_log", "alarm")

    def __init__(self, log: CommitLog) -> None:
        self._log = log
        value = log.entries.live.get(_KEY)
        self.alarm: Alarm | None = None if value is None else Alarm.decode(log.store_id, value)

    def check(self) -> None:
        """Raises :class:`RollbackDetected` or :class:`ForkDetected`, with the alarm, once there is one."""
        alarm = self.alarm
        if alarm is not None:
            error = RollbackDetected if alarm.verdict is Verdict.ROLLBACK else ForkDetected
            raise error(
                f"the store is quarantined since a client proved a {alarm.verdict.name.lower()}: this enclave stood at"
                f" commit {alarm.enclave.size}, the proof is of commit {alarm.client.size}",
                alarm,
            )

    def sound(self, error: FreshnessError, contradiction: Checkpoint, turn: Turn) -> None:
        """Raise the alarm for this verdict, whose signed contradiction was verified, and write it down."""
        verdict = Verdict.ROLLBACK if isinstance(error, RollbackDetected) else Verdict.FORK
        error.alarm = self.alarm = self._log.sign_alarm(verdict, contradiction)
        with self._log.entries.transaction():
            self._log.entries.put(_KEY, self.alarm.encode())
        turn.commits = True
