"""Alarms: the portable evidence behind a rollback or fork verdict, which anybody can check later.

An alarm is the enclave's statement "my history, in this epoch, stands at ``enclave``, while a client proved
``client``, which this store had signed". Three signatures by one key hold it together, so a client cannot frame
the host: it would need a checkpoint that the store never signed, or the enclave's own word.

A fork is self-evident without that statement when two signed checkpoints of one size have different roots:
:func:`proves_fork`. A rollback, and a fork with checkpoints of different sizes, need the statement, because two
honest checkpoints of one history also differ in size.
"""

from __future__ import annotations

from binascii import b2a_base64
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wire.checkpoint import CHECKPOINT_BYTES, Checkpoint, verify_checkpoint
from wire.crypto import SIGNATURE_BYTES, SigningKey, Unauthentic, verify
from wire.errors import EvidenceInvalid, InvalidInput, Malformed

EPOCH_BYTES: Final = 32
ALARM_BYTES: Final = 1 + 2 * CHECKPOINT_BYTES + EPOCH_BYTES + SIGNATURE_BYTES

# No checkpoint's text begins like this (theirs: "pmap.store/"), so neither can be passed off as the other.
_DOMAIN: Final = "pmap.alarm/1"


class Verdict(IntEnum):
    """What the evidence shows about the host."""

    ROLLBACK = 1
    """The enclave runs on an older state than one that this store had signed."""
    FORK = 2
    """The enclave runs on a history that a checkpoint signed by this store is not part of."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signed statement; holding one does not mean that it was verified.

    ``enclave``: where the enclave's history stood. ``client``: the checkpoint that contradicts it. ``epoch``:
    32 bytes, the enclave's incarnation. ``signature``: 64 bytes, Ed25519 over :meth:`statement`.

    Raises:
        Malformed: a field is not of this length.
    """

    verdict: Verdict
    enclave: Checkpoint
    client: Checkpoint
    epoch: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.epoch) != EPOCH_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise Malformed("an alarm has a field of the wrong length")

    def statement(self) -> bytes:
        """The text that is signed."""
        return _statement(self.verdict, self.enclave, self.client, self.epoch)

    def encode(self) -> bytes:
        """``verdict(1) ‖ enclave(104) ‖ client(104) ‖ epoch(32) ‖ signature(64)``; the store id is not in it."""
        return bytes((self.verdict,)) + self.enclave.encode() + self.client.encode() + self.epoch + self.signature

    @classmethod
    def decode(cls, store_id: bytes, data: bytes) -> Alarm:
        """Undo :meth:`encode`; no signature is checked. Raises :class:`Malformed`."""
        if len(data) != ALARM_BYTES:
            raise Malformed(f"an alarm is {ALARM_BYTES} bytes long, not {len(data)}")
        try:
            verdict = Verdict(data[0])
        except ValueError as error:
            raise Malformed(f"no verdict has the number {data[0]}") from error
        client = 1 + CHECKPOINT_BYTES
        epoch = client + CHECKPOINT_BYTES
        signature = epoch + EPOCH_BYTES
        return cls(
            verdict,
            Checkpoint.decode(store_id, data[1:client]),
            Checkpoint.decode(store_id, data[client:epoch]),
            data[epoch:signature],
            data[signature:],
        )

    def describe(self, public_key: bytes) -> str:
        """All of it as text for people, with both signed notes. Says nothing about whether it verifies."""
        return (
            f"{self.verdict.name} of {self.enclave.origin}\n"
            f"The enclave's history stands at record {self.enclave.size}, while a client proved record "
            f"{self.client.size}{_MEANING[self.verdict]}.\n"
            f"epoch: {self.epoch.hex()}\n"
            f"checkpoint key: {public_key.hex()}\n"
            f"signature of this statement: {b2a_base64(self.signature).decode()}"
            f"\nThe enclave's checkpoint:\n\n{self.enclave.note(public_key)}"
            f"\nThe client's checkpoint:\n\n{self.client.note(public_key)}"
        )


_MEANING: Final = {
    Verdict.ROLLBACK: ", which is later: the host took the enclave back to an older state",
    Verdict.FORK: " of another history: the host ran the enclave on two",
}


def _statement(verdict: Verdict, enclave: Checkpoint, client: Checkpoint, epoch: bytes) -> bytes:
    head = f"{_DOMAIN}\n{enclave.store_id.hex()}\n{verdict.name}\n{epoch.hex()}\n"
    return head.encode() + enclave.body() + client.body()


def _misfit(verdict: Verdict, enclave: Checkpoint, client: Checkpoint) -> str | None:
    """Why these two checkpoints cannot support the verdict, if they cannot."""
    if enclave.store_id != client.store_id:
        return "the checkpoints are of two stores"
    if verdict is Verdict.ROLLBACK and client.size <= enclave.size:
        return "a rollback needs a client's checkpoint that is later than the enclave's"
    if verdict is Verdict.FORK and client.size > enclave.size:
        return "a fork needs a client's checkpoint that is not later than the enclave's"
    if verdict is Verdict.FORK and client.size == enclave.size and client.root == enclave.root:
        return "the checkpoints are equal"
    return None


def sign_alarm(key: SigningKey, verdict: Verdict, enclave: Checkpoint, client: Checkpoint, epoch: bytes) -> Alarm:
    """State the verdict. Both checkpoints must have been verified before.

    Raises:
        InvalidInput: the checkpoints do not support the verdict, so nobody would accept the alarm.
    """
    misfit = _misfit(verdict, enclave, client)
    if misfit is not None:
        raise InvalidInput(misfit)
    return Alarm(verdict, enclave, client, epoch, key.sign(_statement(verdict, enclave, client, epoch)))


def verify_alarm(alarm: Alarm, public_key: bytes) -> None:
    """Check that the verdict fits the two checkpoints and that the store's key signed both and the statement.

    Raises:
        EvidenceInvalid: anything of that does not hold.
    """
    misfit = _misfit(alarm.verdict, alarm.enclave, alarm.client)
    if misfit is not None:
        raise EvidenceInvalid(misfit)
    try:
        verify(public_key, alarm.signature, alarm.statement())
    except Unauthentic as error:
        raise EvidenceInvalid("the alarm was not signed by this store's key") from error
    verify_checkpoint(alarm.enclave, public_key)
    verify_checkpoint(alarm.client, public_key)


def proves_fork(a: Checkpoint, b: Checkpoint, public_key: bytes) -> None:
    """Check that two checkpoints prove a fork by themselves: one store, one size, two roots, both signed.

    Raises:
        EvidenceInvalid: they do not.
    """
    if a.store_id != b.store_id:
        raise EvidenceInvalid("the checkpoints are of two stores")
    if a.size != b.size:
        raise EvidenceInvalid("checkpoints of two sizes prove no fork by themselves")
    if a.root == b.root:
        raise EvidenceInvalid("the checkpoints are equal")
    verify_checkpoint(a, public_key)
    verify_checkpoint(b, public_key)
