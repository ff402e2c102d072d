"""A host that rolls back, forks or replaces its store: what the client says, keeps, and lets a third party check."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from adversarial_host import AdversarialHost, connect, executed

from client import (
    ClientStale,
    EvidenceInvalid,
    EvidenceUnproven,
    Fate,
    ForkDetected,
    InvalidInput,
    OutcomeUnknown,
    RollbackDetected,
    SessionUnknown,
    StoreReplaced,
    Verdict,
)
from wire.alarm import Alarm, proves_fork, verify_alarm
from wire.checkpoint import Checkpoint
from wire.errors import Fault, HostUnavailable
from wire.refusal import decode_refusal as genuine_decode_refusal


def roll_back_behind(host: AdversarialHost, client_state: Path) -> None:
    """One mail before the copy, one after it, then the copy comes back."""
    with connect(host, state=client_state) as client:
        client.send(b"before the copy")
    copy = host.keep_copy()
    with connect(host, state=client_state) as client:
        client.send(b"after the copy")
    host.roll_back(copy)
    executed.clear()


def test_a_rollback_is_refused_at_the_hello_and_proved_to_anybody(host: AdversarialHost, tmp_path: Path) -> None:
    roll_back_behind(host, tmp_path / "alice")
    with connect(host, state=tmp_path / "alice") as client:
        evidence = client.checkpoint
        with pytest.raises(RollbackDetected) as caught:
            client.send(b"never executed")
        assert type(caught.value) is RollbackDetected and caught.value.fault is Fault.HOST
        alarm = caught.value.alarm
        assert alarm is not None and alarm.verdict is Verdict.ROLLBACK
        assert alarm.client == evidence and alarm.enclave.size < alarm.client.size
        verify_alarm(Alarm.decode(alarm.enclave.store_id, alarm.encode()), client.checkpoint_key)
    assert executed == []


def test_a_rollback_under_a_running_client_is_refused_at_the_next_mail(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host) as client:
        client.send(b"before")
        copy = host.keep_copy()
        client.send(b"after")
        host.roll_back(copy)
        executed.clear()
        with pytest.raises(RollbackDetected) as caught:
            client.send(b"never executed")
        assert caught.value.alarm is not None
        assert executed == []


def test_a_fork_is_refused_with_its_own_verdict(host: AdversarialHost, tmp_path: Path) -> None:
    alice, bob = connect(host, state=tmp_path / "alice"), connect(host)
    alice.send(b"common")
    bob.send(b"common")
    copy = host.keep_copy()
    other = host.fork(copy)
    alice.send(b"on one side")
    alice.close()
    with connect(other) as carol:
        for _ in range(3):
            carol.send(b"on the other side")
    executed.clear()
    with connect(other, state=tmp_path / "alice") as alice:
        with pytest.raises(ForkDetected) as caught:
            alice.send(b"never executed")
        assert caught.value.alarm is not None and caught.value.alarm.verdict is Verdict.FORK
        verify_alarm(caught.value.alarm, alice.checkpoint_key)
    assert executed == []
    bob.close()
    other.close()


def test_the_verdict_stays_over_restarts_of_the_client_even_if_the_host_repents(
    host: AdversarialHost, tmp_path: Path
) -> None:
    path = tmp_path / "alice"
    with connect(host, state=path) as client:
        client.send(b"one")
        old = host.keep_copy("old")
        client.send(b"two")
    new = host.keep_copy("new")
    host.roll_back(old)
    with connect(host, state=path) as client:
        with pytest.raises(RollbackDetected) as first:
            client.send(b"x")
        with pytest.raises(RollbackDetected) as second:
            client.send(b"x", topic="another")
    host.roll_back(new)
    executed.clear()
    with connect(host, state=path) as client:
        assert isinstance(client.verdict, RollbackDetected)
        for operation in (lambda: client.send(b"x"), client.heartbeat, client.poll, client.recover, client.invite):
            with pytest.raises(RollbackDetected) as again:
                operation()
            assert again.value.alarm == second.value.alarm == first.value.alarm is not None
            assert str(again.value) == str(first.value)
    assert executed == []


def test_other_clients_are_told_of_the_quarantine_with_the_same_alarm(host: AdversarialHost, tmp_path: Path) -> None:
    roll_back_behind(host, tmp_path / "alice")
    with connect(host, state=tmp_path / "alice") as alice, pytest.raises(RollbackDetected) as proved:
        alice.send(b"x")
    host.restart()
    with connect(host) as newcomer, pytest.raises(RollbackDetected) as told:
        newcomer.send(b"x")
    assert told.value.alarm == proved.value.alarm is not None


def test_a_quarantine_under_a_running_client_leaves_its_mails_outcome_open(
    host: AdversarialHost, tmp_path: Path
) -> None:
    with connect(host, state=tmp_path / "alice") as alice, connect(host, state=tmp_path / "bob") as bob:
        alice.send(b"a")
        bob.send(b"b")
        copy = host.keep_copy()
        for _ in range(5):
            bob.send(b"only bob knows")
        host.roll_back(copy)
        alice.send(b"alice cannot know")

        def bob_finds_out(envelope: bytes) -> bytes:
            host.tamper = host.honest
            with pytest.raises(RollbackDetected):
                bob.send(b"x")
            return host.honest(envelope)

        host.tamper = bob_finds_out
        executed.clear()
        with pytest.raises(RollbackDetected) as told:
            alice.send(b"y")
        assert told.value.alarm is not None and told.value.alarm == bob.verdict.alarm  # type: ignore[union-attr]
        assert alice._session.pending_topics == ["default"], "an earlier copy of it could have been executed"
    with connect(host, state=tmp_path / "alice") as alice:
        assert isinstance(alice.verdict, RollbackDetected)
    assert executed == []


def test_by_explicit_choice_a_client_goes_on_after_a_rollback(host: AdversarialHost, tmp_path: Path) -> None:
    roll_back_behind(host, tmp_path / "alice")
    clean = tmp_path / "clean"
    host.host.close()
    shutil.copytree(host.folder, clean)
    host.host = host._start()
    with connect(host, state=tmp_path / "alice") as client:
        with pytest.raises(RollbackDetected):
            client.send(b"x")
        before = client.client_id
        host.roll_back(clean)  # the operator begins again where there is no quarantine yet
        client.accept_rollback()
        assert client.verdict is None and client.checkpoint is None and client.client_id != before
        assert client.send(b"accepted").payload == b"done accepted"
        name = client.client_id
    with connect(host, state=tmp_path / "alice") as client:
        assert client.client_id == name
        assert client.send(b"count").payload == b"3"


def test_an_alarm_that_does_not_verify_is_left_out_and_not_kept(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_forged_alarm(payload: bytes, store_id: bytes) -> Exception:
        error = genuine_decode_refusal(payload, store_id)
        assert isinstance(error, RollbackDetected) and error.alarm is not None
        fields = {name: getattr(error.alarm, name) for name in Alarm.__slots__}
        error.alarm = Alarm(**{**fields, "signature": bytes(64)})
        return error

    roll_back_behind(host, tmp_path / "alice")
    monkeypatch.setattr("client.acceptance.decode_refusal", with_forged_alarm)
    with connect(host, state=tmp_path / "alice") as client:
        with pytest.raises(RollbackDetected) as caught:
            client.send(b"x")
        assert caught.value.alarm is None
        assert client.verdict is None


def test_a_rollback_with_a_mail_on_its_way_leaves_its_outcome_open(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "alice") as client:
        client.send(b"before")
        copy = host.keep_copy()
        client.send(b"after")
        host.lose_reply(then=lambda: host.roll_back(copy))
        with pytest.raises(RollbackDetected):
            client.send(b"executed, then rolled back")
    with connect(host, state=tmp_path / "alice") as client:
        assert client._session.pending_topics == ["default"]


def test_rolling_back_an_unacknowledged_commit_is_an_honest_retry(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        copy = host.keep_copy()
        client.send(b"last acknowledged")
        copy = host.keep_copy("second")
        host.lose_reply(then=lambda: host.roll_back(copy))
        assert client.send(b"25").payload == b"done 25"
        assert client.send(b"count").payload == b"4"


# --- the store, the client's own state -----------------------------------------------------------------------


def test_another_store_under_the_same_address_is_named_as_such(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "alice") as client:
        client.send(b"one")
        host.host.close()
        shutil.rmtree(host.folder)
        host.host = host._start()
        with pytest.raises(StoreReplaced):
            client.send(b"two")
    with pytest.raises(StoreReplaced, match="another store answers"):
        connect(host, state=tmp_path / "alice")
    assert executed == [b"one"]


def test_a_client_restored_from_a_backup_is_stale_and_nobody_else_is_alarmed(
    host: AdversarialHost, tmp_path: Path
) -> None:
    path = tmp_path / "alice"
    with connect(host, state=path) as client:
        client.send(b"one")
    backup = path.read_bytes()
    with connect(host, state=path) as client:
        client.send(b"two")
    path.write_bytes(backup)
    executed.clear()
    with connect(host, state=path) as client, pytest.raises(ClientStale) as caught:
        client.send(b"three")
    assert caught.value.fault is Fault.CLIENT and caught.value.alarm is None
    host.restart()
    with connect(host, state=path) as client, pytest.raises(ClientStale):
        client.send(b"three")
    assert executed == []
    with connect(host) as bob:
        assert bob.send(b"all is well").payload == b"done all is well"


def test_two_devices_with_one_state_file_are_found_out(host: AdversarialHost, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with connect(host, state=one) as client:
        client.send(b"a")
    for ending in ("", ".key"):
        shutil.copy(tmp_path / f"one{ending}", tmp_path / f"two{ending}")
    with connect(host, state=one) as client:
        client.send(b"b")
    with connect(host, state=two) as client, pytest.raises(ClientStale):
        client.send(b"c")
    assert executed == [b"a", b"b"]


# --- comparing ------------------------------------------------------------------------------------------------


def forked(host: AdversarialHost, tmp_path: Path) -> AdversarialHost:
    with connect(host, state=tmp_path / "alice") as alice, connect(host, state=tmp_path / "bob") as bob:
        alice.send(b"common")
        bob.send(b"common")
    return host.fork(host.keep_copy())


def test_two_clients_on_the_two_sides_of_a_fork_find_it_by_comparing(host: AdversarialHost, tmp_path: Path) -> None:
    other = forked(host, tmp_path)
    with connect(host, state=tmp_path / "alice") as alice, connect(other, state=tmp_path / "bob") as bob:
        alice.send(b"on one side")
        bob.send(b"on the other")
        assert alice.checkpoint is not None and bob.checkpoint is not None
        assert alice.checkpoint.size == bob.checkpoint.size
        with pytest.raises(ForkDetected) as caught:
            alice.compare(bob.checkpoint.note(bob.checkpoint_key))
        assert caught.value.checkpoint == bob.checkpoint
        proves_fork(alice.checkpoint, bob.checkpoint, alice.checkpoint_key)
        executed.clear()
        with pytest.raises(ForkDetected):
            alice.send(b"x")
    with connect(host, state=tmp_path / "alice") as alice:
        assert isinstance(alice.verdict, ForkDetected) and alice.verdict.checkpoint == caught.value.checkpoint
    assert executed == []
    other.close()


def test_sides_of_different_lengths_are_found_by_the_proof_that_the_host_cannot_give(
    host: AdversarialHost, tmp_path: Path
) -> None:
    other = forked(host, tmp_path)
    with connect(host, state=tmp_path / "alice") as alice, connect(other, state=tmp_path / "bob") as bob:
        alice.send(b"on one side")
        bob.send(b"on the other")
        for _ in range(3):
            bob.send(b"on the other")
        assert alice.checkpoint is not None and bob.checkpoint is not None
        with pytest.raises(ForkDetected, match="cannot show"):
            bob.compare(alice.checkpoint)
        with pytest.raises(EvidenceUnproven):
            alice.compare(bob.checkpoint)  # the host has no such commit on this side
        assert alice.verdict is None and bob.verdict is None, "without a portable proof nothing is kept"
    other.close()


def test_a_reply_from_one_side_of_a_fork_settles_nothing_once_the_client_has_moved_to_the_other(
    host: AdversarialHost, tmp_path: Path
) -> None:
    """The mail is executed on this side, its reply withheld; the client goes on on the other, which never saw it."""
    with connect(host) as client:
        client.send(b"one", "a")
        client.send(b"two", "b")
        copy = tmp_path / "copy"
        shutil.copytree(host.folder, copy)  # of a store at rest; its enclave runs on, and so does the session
        other = host.fork(copy)
        try:
            host.lose_reply(then=host.unreachable)
            with pytest.raises((OutcomeUnknown, HostUnavailable)):
                client.send(b"here", "b")
            assert executed[-1] == b"here"
            # From now on the host answers from the other side, and still has this side's reply to give.
            this_side = host.host
            host.attestation, host.tamper = other.attestation, other.honest  # type: ignore[method-assign]
            host.poll = lambda address: this_side.poll(address) + other.host.poll(address)  # type: ignore[method-assign]
            assert client.send(b"there", "a").payload == b"done there"
            resolved = {outcome.topic: outcome for outcome in client.recover(resend=False)}
            assert resolved["b"].fate is not Fate.EXECUTED
            assert client.send(b"next", "b").payload == b"done next"
            assert executed[-2:] == [b"there", b"next"]
        finally:
            other.close()


def test_a_reply_held_back_until_the_client_has_moved_to_another_fork_settles_nothing(
    host: AdversarialHost, tmp_path: Path
) -> None:
    with connect(host) as client:
        client.send(b"one", "a")
        client.send(b"two", "b")
        copy = tmp_path / "copy"
        shutil.copytree(host.folder, copy)
        other = host.fork(copy)

        def never_met(envelope: bytes) -> bytes:
            host.tamper = other.honest
            raise SessionUnknown("the host answered 409: never met")

        def hold_back(envelope: bytes) -> bytes:
            answer = host.honest(envelope)
            host.attestation, host.tamper = other.attestation, never_met  # type: ignore[method-assign]
            assert client.send(b"there", "b").payload == b"done there"
            return answer

        try:
            host.tamper = hold_back
            assert client.send(b"moved", "a").payload == b"done moved"
            assert executed[2:] == [b"moved", b"there", b"moved"], "once on each side, which never meet"
            assert client.send(b"next", "a").payload == b"done next"
            assert client.send(b"next", "b").payload == b"done next"
        finally:
            other.close()


def test_clients_of_one_history_agree_whatever_their_sizes(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        alice.send(b"a")
        early = alice.checkpoint
        bob.send(b"b")
        assert early is not None and bob.checkpoint is not None and early.size < bob.checkpoint.size
        bob.compare(early)
        bob.compare(bob.checkpoint)
        alice.compare(bob.checkpoint.note(bob.checkpoint_key))
        assert alice.checkpoint == bob.checkpoint, "what was compared is evidence from then on"
        assert alice.send(b"c").payload == b"done c"


def test_a_checkpoint_that_this_store_did_not_sign_says_nothing(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"a")
        ours = client.checkpoint
        assert ours is not None
        with pytest.raises(EvidenceInvalid):
            client.compare(Checkpoint(ours.store_id, ours.size, bytes(32), bytes(64)))
        with pytest.raises(EvidenceInvalid, match="another store"):
            client.compare(Checkpoint(bytes(16), ours.size, ours.root, ours.signature))
        assert client.verdict is None
        assert client.send(b"b").payload == b"done b"


def test_a_host_that_serves_nonsense_for_a_proof_is_not_believed(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"a")
        early = client.checkpoint
        client.send(b"b")
        assert early is not None
        host.consistency = lambda size1, size2: [b"x"] * 99  # type: ignore[method-assign]
        with pytest.raises(ForkDetected):
            client.compare(early)

        def refuse(size1: int, size2: int) -> list[bytes]:
            raise HostUnavailable("no")

        host.consistency = refuse  # type: ignore[method-assign]
        with pytest.raises(EvidenceUnproven):
            client.compare(early)


# --- invites --------------------------------------------------------------------------------------------------


def test_a_newcomer_with_an_invite_starts_from_its_sponsors_evidence(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host) as sponsor:
        sponsor.send(b"one")
        copy = host.keep_copy()
        sponsor.send(b"two")
        invite = sponsor.invite()
        evidence = sponsor.checkpoint
    with connect(host, invite=invite) as newcomer:
        assert newcomer.checkpoint == evidence
        assert newcomer.send(b"hello").payload == b"done hello"
    host.roll_back(copy)
    executed.clear()
    with connect(host, invite=invite) as newcomer, pytest.raises(RollbackDetected) as caught:
        newcomer.send(b"x")
    assert caught.value.alarm is not None and caught.value.alarm.client == evidence
    assert executed == []


def test_a_newcomer_with_an_invite_refuses_another_store(host: AdversarialHost, tmp_path: Path) -> None:
    other = AdversarialHost(tmp_path / "other")
    with connect(host) as sponsor:
        invite = sponsor.invite()
    with pytest.raises(StoreReplaced):
        connect(other, invite=invite)
    with connect(other, state=tmp_path / "bob") as bob:
        bob.send(b"x")
    with pytest.raises(StoreReplaced, match="invite"):
        connect(other, state=tmp_path / "bob", invite=invite)
    other.close()


def test_an_invite_with_any_character_changed_is_none(host: AdversarialHost) -> None:
    with connect(host) as sponsor:
        invite = sponsor.invite()
    assert connect(host, invite=f"  {invite}\n").checkpoint is not None
    for at in range(0, len(invite), 7):
        replacement = "A" if invite[at] != "A" else "B"
        with pytest.raises(InvalidInput):
            connect(host, invite=invite[:at] + replacement + invite[at + 1 :])
    for cut in (invite[:-1], invite[1:], "", "pmap-invite:1:", invite + "A", invite + "="):
        with pytest.raises(InvalidInput):
            connect(host, invite=cut)


def test_a_client_that_knows_the_store_takes_an_invites_evidence_over(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "alice") as alice:
        alice.send(b"a")
    with connect(host) as bob:
        bob.send(b"b")
        invite, later = bob.invite(), bob.checkpoint
    with connect(host, state=tmp_path / "alice", invite=invite) as alice:
        assert alice.checkpoint == later
        assert alice.send(b"c").payload == b"done c"
