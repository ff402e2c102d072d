"""Steps that tests of attacks share: what a refusal has to look like, and what stays of it after a restart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from client import EnclaveClient, ForkDetected, HostUnavailable, OutcomeUnknown, RollbackDetected
from host_store.adversary import MaliciousHost
from pmap.enclave import EnclaveSettings
from pmap.launch import read_key_file
from pmap.startup import Restart
from pmap.tee.simulated import SimulatedTee, measure
from wire.alarm import Alarm, verify_alarm
from wire.errors import FreshnessError, PmapError
from wire.mail import Outcome, Reply, open_reply
from wire.refusal import decode_refusal

Saw = Callable[[str], None]
"""Notes what a test saw, for the table of rows: ``saw("E RollbackDetected")``."""

ALARMING = (RollbackDetected, ForkDetected)


class Attack:
    """Assertions that also note what was seen."""

    def __init__(self, saw: Saw) -> None:
        self.saw = saw
        self._newcomers = 0

    def refused_by_enclave(
        self, host: MaliciousHost, operation: Callable[[], object], error: type[PmapError], client: EnclaveClient
    ) -> PmapError:
        """The enclave refuses: exactly this class, no handler, and, where it is an alarm, for good.

        ``operation`` is one of ``client``'s, whom the host serves.
        """
        with host.refuses(error) as caught:
            operation()
        verdict = caught[0]
        if isinstance(verdict, ALARMING):
            alarm = verdict.alarm
            assert alarm is not None, "the enclave says so itself, and signs it"
            verify_alarm(Alarm.decode(alarm.enclave.store_id, alarm.encode()), client.checkpoint_key)
            self._quarantined(host, client, alarm)
        self.saw(f"E {error.__name__}")
        return verdict

    def _quarantined(self, host: MaliciousHost, client: EnclaveClient, alarm: Alarm) -> None:
        """After a restart, and a crash, everybody is told; the client that caught the host does not ask any more."""
        for end in (host.restart, host.crash):
            end()
            # Of any class: another proof that comes later is another verdict; this one is the first.
            with host.refuses(_class_of(alarm)) as again:
                client.send(b"still refused")
            assert _alarm_of(again[0]) == alarm
            newcomer = self._newcomer(host)
            with host.refuses(_class_of(alarm)) as told:
                newcomer.send(b"refused as well")
            assert _alarm_of(told[0]) == alarm
            newcomer.close()

    def _newcomer(self, host: MaliciousHost) -> EnclaveClient:
        self._newcomers += 1
        return host.client(f"newcomer-{self._newcomers}")

    def rejected_by_enclave(
        self, host: MaliciousHost, operation: Callable[[], object], error: type[PmapError]
    ) -> PmapError:
        """The enclave does not even know the sender: an error without authentication, and no handler."""
        with host.refuses(error) as caught:
            operation()
        self.saw(f"E {error.__name__}")
        return caught[0]

    def refused_by_client(
        self, host: MaliciousHost, operation: Callable[[], object], error: type[PmapError]
    ) -> PmapError:
        """The client does not take what it is shown. (Whether a handler ran is the test's own question.)"""
        with pytest.raises(error) as caught:
            operation()
        assert type(caught.value) is error
        self.saw(f"C {error.__name__}")
        return caught.value

    def refused_at_load(self, host: MaliciousHost, change: Callable[[], object], error: type[PmapError]) -> None:
        """The enclave does not start on it, and no later start does either."""
        load_refused(host, change, error)
        self.saw(f"L {error.__name__}")

    def found_by_comparing(self, one: EnclaveClient, other: EnclaveClient) -> None:
        """Two clients on two histories, brought to one size: each finds the fork in what the other holds, for good."""
        meet(one, other)
        assert one.checkpoint is not None and other.checkpoint is not None
        notes = [client.checkpoint.note(client.checkpoint_key) for client in (one, other) if client.checkpoint]
        for client, note in ((one, notes[1]), (other, notes[0])):
            with pytest.raises(ForkDetected):
                client.compare(note)
            assert isinstance(client.verdict, ForkDetected)
            with pytest.raises(ForkDetected):
                client.send(b"no more")
        self.saw("X ForkDetected")

    def found_when_caught_up(self, behind: EnclaveClient, ahead: EnclaveClient) -> None:
        """A client on an old state goes on until it holds as many commits as one whom the host keeps away."""
        assert behind.checkpoint is not None and ahead.checkpoint is not None
        assert behind.checkpoint.size < ahead.checkpoint.size
        while behind.checkpoint.size < ahead.checkpoint.size:
            behind.heartbeat()
        with pytest.raises(ForkDetected):
            behind.compare(ahead.checkpoint.note(ahead.checkpoint_key))
        assert isinstance(behind.verdict, ForkDetected)
        with pytest.raises(ForkDetected):
            behind.send(b"no more")
        self.saw("X ForkDetected")

    def never_stable(self, client: EnclaveClient, commit: int) -> None:
        """However often this client asks, the commit is not called stable."""
        for _ in range(4):
            assert client.heartbeat().stable < commit
        self.saw("S not stable")


def _alarm_of(error: PmapError) -> Alarm | None:
    assert isinstance(error, FreshnessError)
    return error.alarm


def _class_of(alarm: Alarm) -> type[PmapError]:
    return RollbackDetected if alarm.verdict.name == "ROLLBACK" else ForkDetected


def load_refused(host: MaliciousHost, change: Callable[[], object], error: type[PmapError]) -> None:
    """``change`` starts the enclave on something that it refuses, now and at the next start."""
    with host.refuses(error):
        change()
    with host.refuses(error):
        host.start()


def meet(one: EnclaveClient, other: EnclaveClient) -> None:
    """Heartbeats, until both hold checkpoints of one size."""
    for client in (one, other):
        client.heartbeat()
    while True:
        assert one.checkpoint is not None and other.checkpoint is not None
        if one.checkpoint.size == other.checkpoint.size:
            return
        (one if one.checkpoint.size < other.checkpoint.size else other).heartbeat()


def open_answer(client: EnclaveClient, answer: bytes) -> Reply:
    """What an answer to one of this client's own messages says, whoever handed it over."""
    state: Any = client._session.state
    return open_reply(answer, state.session.secret, state.pin.store_id)


def refusal(client: EnclaveClient, answer: bytes) -> PmapError:
    """The verdict that an answer carries."""
    reply = open_answer(client, answer)
    assert reply.outcome is Outcome.REFUSED, reply
    return decode_refusal(reply.payload or b"", client._session.state.pin.store_id)  # type: ignore[union-attr]


def raise_refusal(client: EnclaveClient, answer: bytes) -> None:
    """Raises the verdict that an answer carries."""
    raise refusal(client, answer)


def send_unheard(client: EnclaveClient, body: bytes) -> None:
    """Send a mail whose reply does not come."""
    with pytest.raises(OutcomeUnknown):
        client.send(body)


def silently(operation: Callable[[], object]) -> None:
    """An operation of which it does not matter whether it works."""
    with suppress(PmapError):
        operation()


def rotated_keyring(host: MaliciousHost) -> bytes:
    """Have an enclave start on the store and change its key, and stop it there: the keyring that it asks to be stored.

    The store stays as it is, and closed.
    """
    host.stop()
    with closing(host.open_store()) as store:
        keyring, head = store.keyring(), store.head()
        assert keyring is not None
        code = measure(host.enclave, EnclaveSettings.of(host.enclave).measured())
        tee = SimulatedTee(read_key_file(host._world.key_file, os.urandom, create=False), code)
        restart = Restart(host.enclave(), tee, os.urandom, keyring, rotate=True)
        (newest,) = store.read(head.n, head.n + 1)
        restart.feed([newest, *store.read(head.first, head.n + 1)])
        restart.finish()
    assert restart.new_keyring is not None
    return restart.new_keyring


def fill_window(host: MaliciousHost, client: EnclaveClient, commits: int = 16) -> None:
    """Have a map that one record does not hold, so that a restart needs a window of several."""
    for number in range(24):
        client.send(b"fill %02d 400" % number)
    for _ in range(commits):
        client.heartbeat()
    assert 4 < len(host.records) < host.commits


# --- a client's state, as bytes -----------------------------------------------------------------------------


def save_state(host: MaliciousHost, name: str) -> dict[str, bytes]:
    """The files of a client's state, by their ending."""
    path = host.state_file(name)
    return {ending: _with(path, ending).read_bytes() for ending in ENDINGS if _with(path, ending).exists()}


def put_state(host: MaliciousHost, name: str, files: dict[str, bytes]) -> None:
    """Let a client's state be these files."""
    path = host.state_file(name)
    for ending in ENDINGS:
        _with(path, ending).unlink(missing_ok=True)
    for ending, data in files.items():
        file = _with(path, ending)
        file.write_bytes(data)
        file.chmod(0o600)


ENDINGS = ("", ".received", ".key")


def _with(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def forget_state(host: MaliciousHost, name: str) -> None:
    """Delete a client's state."""
    put_state(host, name, {})


def copy_folder(source: Path, target: Path) -> None:
    """Exactly this copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def accepts_no_more_than(values: Iterable[bytes], operation: Callable[[], bytes | None]) -> None:
    """An operation that fails, or answers one of these."""
    with suppress(PmapError):
        assert operation() in set(values)


__all__ = [name for name in dir() if not name.startswith("_")] + ["HostUnavailable"]
