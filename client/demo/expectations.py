"""What has to come out of the demo, as functions that raise when something else did."""

from __future__ import annotations

from collections.abc import Mapping

from wire.alarm import Alarm, Verdict, verify_alarm
from wire.errors import EvidenceInvalid, PmapError, RollbackDetected


class DemoFailed(Exception):
    """Something came out that the demo does not claim."""


def expect_equal(claim: str, expected: object, found: object) -> None:
    """``claim`` names what is compared. Raises :class:`DemoFailed`."""
    if found != expected:
        raise DemoFailed(f"{claim}: expected {expected!r}, found {found!r}")


def expect_entries(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> None:
    """Every entry is there with its value, and nothing else. Raises :class:`DemoFailed`."""
    for key, value in expected.items():
        if key not in found:
            raise DemoFailed(f"{key!r} was acknowledged and is not there: it was lost")
        if found[key] != value:
            raise DemoFailed(f"{key!r} was written as {value!r} and is {found[key]!r}")
    if len(found) != len(expected):
        stranger = next(key for key in found if key not in expected)
        raise DemoFailed(f"{stranger!r} is there and was never written")


def expect_rollback(
    client: str, outcome: object, checkpoint_key: bytes, *, restored_commit: int, oldest_proof: int
) -> Alarm:
    """The outcome of a mail after the rollback is the verdict, with evidence that holds.

    Args:
        client: the client's name, for people.
        outcome: what came of the mail: a reply, or an exception.
        checkpoint_key: the store's public key, which both checkpoints and the alarm must be signed by.
        restored_commit: where the restored store stood; the enclave's checkpoint must say so.
        oldest_proof: the client's checkpoint must be of this commit or a later one.

    Raises :class:`DemoFailed`.
    """
    if not isinstance(outcome, PmapError):
        raise DemoFailed(f"{client}'s mail was answered on the old state: {outcome!r}")
    # Not a subclass, not a similar verdict: exactly this one.
    expect_equal(f"the verdict that {client} got", RollbackDetected.__name__, type(outcome).__name__)
    assert isinstance(outcome, RollbackDetected)
    alarm = outcome.alarm
    if alarm is None:
        raise DemoFailed(f"{client} got the verdict without the enclave's signed alarm")
    try:
        verify_alarm(alarm, checkpoint_key)
    except EvidenceInvalid as error:
        raise DemoFailed(f"the alarm that {client} got proves nothing: {error}") from error
    expect_equal("the alarm's verdict", Verdict.ROLLBACK.name, alarm.verdict.name)
    expect_equal("the commit of the enclave's checkpoint in the alarm", restored_commit, alarm.enclave.size)
    if alarm.client.size < oldest_proof:
        raise DemoFailed(f"the client's checkpoint is of commit {alarm.client.size}, expected {oldest_proof} or later")
    return alarm
