"""The enclave restarts, or the client does, at every point around a mail: nothing lost, nothing twice, no alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adversarial_host import AdversarialHost, connect, executed

from client import (
    AttestationError,
    EnclaveClient,
    Fate,
    HostUnavailable,
    OutcomeUnknown,
    ReplyWithheld,
    RollbackDetected,
    SessionUnknown,
    state_file,
)
from client.effects import Deliver, Save
from client.state_file import StateFile
from wire.attestation import Attestation
from wire.mail import EnvelopeKind, envelope_kind


class Killed(BaseException):
    """The client's process ends here."""


def test_a_restart_between_mails_goes_unnoticed_but_for_the_callback(host: AdversarialHost) -> None:
    told: list[int] = []
    with connect(host, on_restart=lambda: told.append(client.send(b"from the callback").receipt.commit)) as client:
        client.send(b"one")
        assert told == []
        host.restart()
        assert client.send(b"two").payload == b"done two"
        assert len(told) == 1, "the callback may use the client"
        assert client.send(b"three").payload == b"done three"
        assert len(told) == 1
        assert executed == [b"one", b"two", b"from the callback", b"three"]


def test_executed_then_restarted_the_reply_comes_from_the_outbox(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.lose_reply(then=host.restart)
        assert client.send(b"25").payload == b"done 25"
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"25", b"after"]


def test_executed_then_restarted_and_the_first_poll_fails_the_reply_is_recovered(host: AdversarialHost) -> None:
    polls = []

    def fail_once(messages: list[bytes]) -> list[bytes]:
        polls.append(messages)
        if len(polls) == 1:
            raise HostUnavailable("not now")
        return messages

    with connect(host) as client:
        client.send(b"before")
        host.tamper_poll = fail_once
        host.lose_reply(then=host.restart)
        reply = client.send(b"25")
        assert reply.payload == b"done 25" and reply.receipt.checkpoint is not None
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"25", b"after"]


def test_not_executed_and_restarted_the_mail_is_fenced_and_sent_anew(host: AdversarialHost) -> None:
    def restart_first(envelope: bytes) -> bytes:
        host.tamper = host.honest
        host.restart()
        raise HostUnavailable("crashed before it was processed")

    with connect(host) as client:
        client.send(b"before")
        host.tamper = restart_first
        assert client.send(b"25").payload == b"done 25"
        assert executed == [b"before", b"25"]
        assert client._session.state.streams["default"].sequence == 3, "the first number was used up by the fence"


def test_executed_then_restarted_and_the_reply_withheld_says_so(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.tamper_poll = lambda messages: []
        host.lose_reply(then=host.restart)
        with pytest.raises(ReplyWithheld, match="was executed with commit"):
            client.send(b"25")
        assert executed == [b"before", b"25"]
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"25", b"after"]


def test_a_heartbeat_that_was_executed_needs_no_reply_to_be_recovered(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.tamper_poll = lambda messages: []
        host.lose_reply(then=host.restart)
        assert client.heartbeat().commit > 0
        assert client.send(b"after").payload == b"done after"


def test_restarting_again_and_again_during_the_recovery_changes_nothing(host: AdversarialHost) -> None:
    def restart_before_each(envelope: bytes) -> bytes:
        if len(host.sent) < 9:
            host.restart()
        return host.honest(envelope)

    with connect(host, retry_delays=(0.0,) * 8) as client:
        client.send(b"before")
        host.tamper_poll = lambda messages: []
        host.lose_reply(then=lambda: setattr(host, "tamper", restart_before_each))
        with pytest.raises(ReplyWithheld):
            client.send(b"25")
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"25", b"after"]


def test_a_lost_answer_to_recover_is_asked_for_again(host: AdversarialHost) -> None:
    def lose_every_other(envelope: bytes) -> bytes:
        answer = host.honest(envelope)
        if len(host.sent) % 2:
            raise HostUnavailable("lost on its way back")
        return answer

    def crash(envelope: bytes) -> bytes:
        host.restart()
        host.tamper = lose_every_other
        raise HostUnavailable("crashed before it was processed")

    with connect(host, retry_delays=(0.0,) * 8) as client:
        client.send(b"before")
        host.tamper = crash
        assert client.send(b"25").payload == b"done 25"
        assert executed == [b"before", b"25"]


def test_an_enclave_that_never_stops_restarting_is_reported_and_executes_nothing_twice(host: AdversarialHost) -> None:
    def always_restart(envelope: bytes) -> bytes:
        host.restart()
        return host.honest(envelope)

    with connect(host) as client:
        client.send(b"before")
        host.tamper = always_restart
        with pytest.raises(OutcomeUnknown):
            client.send(b"25")
        host.tamper = host.honest
        (resolved,) = client.recover()
        assert resolved.fate is Fate.EXECUTED
        assert executed == [b"before", b"25"]


def test_an_attestation_of_an_epoch_that_is_over_leads_nowhere(host: AdversarialHost) -> None:
    old = host.attestation()
    host.restart()
    host.attestation = lambda: old  # type: ignore[method-assign]
    with connect(host) as client, pytest.raises(HostUnavailable, match="no session"):
        client.send(b"x")
    assert executed == []


def test_the_constraint_is_checked_again_after_a_restart(host: AdversarialHost) -> None:
    identity = connect(host).identity
    assert identity is not None
    with connect(host, constraint=f"C:{identity.measurement.hex()} SEC:INSECURE") as client:
        client.send(b"one")
        host.restart()
        genuine = host.attestation

        def other_code() -> bytes:
            document = Attestation.decode(genuine())
            evidence = document.evidence.replace(identity.measurement, bytes(32))
            fields = {name: getattr(document, name) for name in Attestation.__slots__}
            return Attestation(**{**fields, "evidence": evidence}).encode()

        host.attestation = other_code  # type: ignore[method-assign]
        with pytest.raises(AttestationError, match="runs other code"):
            client.send(b"two")
        host.attestation = genuine  # type: ignore[method-assign]
        assert client.recover()[0].fate is Fate.EXECUTED
        assert executed == [b"one", b"two"]


# --- the client restarts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mails", [0, 1, 2])
def test_a_saved_client_goes_on_where_it_was(host: AdversarialHost, tmp_path: Path, mails: int) -> None:
    path = tmp_path / "alice.state"
    with connect(host, state=path) as client:
        name = client.client_id
        for number in range(mails):
            client.send(b"first life %d" % number)
    with connect(host, state=path) as client:
        assert client.client_id == name
        assert client.send(b"second life").payload == b"done second life"
        host.restart()
    with connect(host, state=path) as client:
        assert client.send(b"third life").payload == b"done third life"
    hellos = [envelope for envelope in host.sent if envelope_kind(envelope) is EnvelopeKind.HELLO]
    assert len(hellos) == 2, "the session goes on in the same epoch, without another hello"


def lose_power(client: EnclaveClient, folder: Path, synced: dict[Path, bytes]) -> None:
    """End a client, and leave of its files what was synced."""
    client._driver.release()
    for path in folder.iterdir():
        if path not in synced and not path.name.endswith(".lock"):
            path.unlink()
    for path, data in synced.items():
        path.write_bytes(data)


def note_synced(monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """From now on: what is in each file for good."""
    synced: dict[Path, bytes] = {}
    replace = state_file._replace

    def noting(path: Path, data: bytes, *, durable: bool) -> None:
        replace(path, data, durable=durable)
        if durable:
            synced[path] = data

    monkeypatch.setattr(state_file, "_replace", noting)
    return synced


def test_a_host_that_rolls_back_while_a_client_loses_power_is_found_out(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, folder = note_synced(monkeypatch), tmp_path / "alice"
    folder.mkdir()
    client = connect(host, state=folder / "state")
    client.send(b"one")
    copy = host.keep_copy()
    client.send(b"two")
    lose_power(client, folder, synced)
    host.roll_back(copy)
    with connect(host, state=folder / "state") as client, pytest.raises(RollbackDetected):
        client.send(b"three")
    assert executed == [b"one", b"two"]


def test_without_synced_receipts_the_mail_of_the_last_reply_is_settled_again(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, folder = note_synced(monkeypatch), tmp_path / "alice"
    folder.mkdir()
    client = connect(host, state=folder / "state", sync_receipts=False)
    client.send(b"one")
    client.send(b"two")
    lose_power(client, folder, synced)
    with connect(host, state=folder / "state") as client:
        (settled,) = client.recover()
        assert settled.fate is Fate.EXECUTED
        assert client.send(b"three").payload == b"done three"
    assert executed == [b"one", b"two", b"three"]


def crash_points() -> list[tuple[str, int]]:
    return [
        ("before the write", 0),
        ("between write and send", 1),
        ("after the send", 2),
        ("after the receive", 3),
        ("after the write of the receive", 4),
    ]


@pytest.mark.parametrize("restart_enclave", [False, True])
@pytest.mark.parametrize(("where", "point"), crash_points())
def test_a_client_killed_around_a_send_knows_what_became_of_it(
    host: AdversarialHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    point: int,
    restart_enclave: bool,
) -> None:
    path = tmp_path / "alice.state"
    client = connect(host, state=path)
    client.send(b"before")
    passed: list[str] = []

    def die_at(reached: int) -> None:
        passed.append(where)
        if len(passed) - 1 == reached:
            raise Killed

    perform = client._driver._perform

    def killed(effect: object) -> object:
        match effect:
            case Save(durable=True):
                die_at(point)
                perform(effect)  # type: ignore[arg-type]
                return die_at(point)
            case Deliver():
                answer = perform(effect)  # type: ignore[arg-type]
                die_at(point)
                return answer
            case Save(durable=False):
                die_at(point)
                perform(effect)  # type: ignore[arg-type]
                return die_at(point)
        return perform(effect)  # type: ignore[arg-type]

    monkeypatch.setattr(client._driver, "_perform", killed)
    with pytest.raises(Killed):
        client.send(b"25")
    assert client._driver._file is not None
    client._driver._file.close()  # what the end of the process does
    if restart_enclave:
        host.restart()

    was_executed = executed == [b"before", b"25"]
    assert was_executed is (point >= 2)
    with connect(host, state=path) as again:
        resolved = again.recover()
        if point == 0:
            assert resolved == [], "nothing had left, and nothing was remembered"
        elif point == 4:
            assert resolved == [], "the reply had been written down"
        else:
            assert [(one.body, one.fate) for one in resolved] == [(b"25", Fate.EXECUTED)]
            assert resolved[0].reply is not None and resolved[0].reply.payload == b"done 25"
        assert again.send(b"after").payload == b"done after"
    assert executed == [b"before", *([b"25"] if point else []), b"after"]


def watch_what_leaves(client: EnclaveClient, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every envelope that leaves for the first time; the whole state must have been made durable just before."""
    perform, state = client._driver._perform, client._session.state
    durable: list[bytes] = []
    left: list[bytes] = []

    def checked(effect: Any) -> Any:
        if isinstance(effect, Deliver) and effect.envelope not in left:
            assert durable and durable[-1] == state.encode(), "an envelope leaves that is not written down"
            left.append(effect.envelope)
        result = perform(effect)
        if effect == Save(durable=True):
            durable.append(state.encode())
        return result

    monkeypatch.setattr(client._driver, "_perform", checked)
    return left


def test_nothing_leaves_before_all_that_it_shows_is_durable(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(host, state=tmp_path / "s") as client:
        left = watch_what_leaves(client, monkeypatch)
        client.send(b"a", topic="a")
        client.send(b"b", topic="b")

        def overtake(envelope: bytes) -> bytes:
            host.tamper = host.honest
            client.send(b"b overtakes", topic="b")
            client.send(b"b again", topic="b")
            return host.honest(envelope)

        host.tamper = overtake
        client.send(b"overtaken", topic="a")
        host.tamper_poll = lambda messages: []
        host.lose_reply(then=host.restart)
        with pytest.raises(ReplyWithheld):
            client.send(b"recovered", topic="a")
        host.tamper_poll = lambda messages: messages
        client.poll()
    kinds = [envelope_kind(envelope) for envelope in left]
    assert kinds.count(EnvelopeKind.HELLO) == 2
    # a, b, the overtaken one, two that overtake it, the recovered one, and the question about it
    assert kinds.count(EnvelopeKind.MAIL) == 7


def test_a_durable_save_is_not_satisfied_by_one_that_is_not(host: AdversarialHost, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with connect(host, state=path) as client:
        client.send(b"one")
        driver = client._driver
        before = path.read_bytes()
        driver._saved = driver._wanted + 5  # other threads have saved meanwhile, but only what they received
        driver._save(durable=True)
        assert path.read_bytes() != before


def test_a_power_cut_may_take_back_what_was_written_after_a_receive(host: AdversarialHost, tmp_path: Path) -> None:
    path = tmp_path / "alice.state"
    client = connect(host, state=path)
    for body in (b"one", b"two", b"three"):
        client.send(body)
    client._driver._file.close()  # type: ignore[union-attr]
    received = path.with_name("alice.state.received")
    received.write_bytes(received.read_bytes()[:-40])  # it had not reached the disk
    with connect(host, state=path) as again:
        (resolved,) = again.recover()
        assert (resolved.body, resolved.fate) == (b"three", Fate.EXECUTED)
        assert again.send(b"four").payload == b"done four"
    assert executed == [b"one", b"two", b"three", b"four"]


def test_a_lost_welcome_is_followed_by_another_hello(host: AdversarialHost) -> None:
    host.lose_reply()
    with connect(host) as client:
        assert client.send(b"one").payload == b"done one"
    hellos = [envelope for envelope in host.sent if envelope_kind(envelope) is EnvelopeKind.HELLO]
    assert len(hellos) == 2 and hellos[0] != hellos[1]


def test_a_hello_that_the_host_doubles_is_said_again(host: AdversarialHost) -> None:
    def double(envelope: bytes) -> bytes:
        host.tamper = host.honest
        host.honest(envelope)
        return host.honest(envelope)  # refused: it was accepted before

    host.tamper = double
    with connect(host) as client:
        assert client.send(b"one").payload == b"done one"


def test_a_client_that_cannot_write_its_state_sends_nothing(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client import StoreUnavailable

    def full(self: StateFile, state: bytes, *, durable: bool) -> None:
        raise StoreUnavailable("cannot write the client state: no space left on device")

    client = connect(host, state=tmp_path / "alice.state")
    client.send(b"one")
    sent = len(host.sent)
    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "write", full)
        with pytest.raises(StoreUnavailable):
            client.send(b"two")
        assert len(host.sent) == sent
    assert client.recover() == [], "what never left is not pending"
    assert client.send(b"three").payload == b"done three"
    assert executed == [b"one", b"three"]
    client.close()


# --- an enclave that keeps no state --------------------------------------------------------------------------


def test_a_stateless_enclave_answers_without_evidence(stateless_host: AdversarialHost, tmp_path: Path) -> None:
    with connect(stateless_host, state=tmp_path / "s") as client:
        reply = client.send(b"one")
        assert reply.payload == b"done one"
        assert (reply.receipt.commit, reply.receipt.checkpoint, client.checkpoint) == (0, None, None)
        stateless_host.lose_reply()
        assert client.send(b"two").payload == b"done two"
        assert client.send(b"other", topic="t").payload == b"done other"
    assert executed == [b"one", b"two", b"other"]


def test_a_stateless_enclave_starts_counting_again_after_a_restart(
    stateless_host: AdversarialHost, tmp_path: Path
) -> None:
    with connect(stateless_host, state=tmp_path / "s") as client:
        client.send(b"one")
        client.send(b"other", topic="t")
        stateless_host.restart()
        # The first one finds it out; the mail that was pending then is of nobody's knowledge.
        with pytest.raises(OutcomeUnknown, match="keeps no state and has restarted"):
            client.send(b"two")
        assert client.send(b"three").payload == b"done three"
        assert client.send(b"four", topic="t").payload == b"done four"
    with connect(stateless_host, state=tmp_path / "s") as client:
        assert client.send(b"five").payload == b"done five"
        assert client.recover() == []
    assert executed == [b"one", b"other", b"three", b"four", b"five"]


def test_a_stateless_enclave_cannot_say_what_became_of_a_mail_of_its_last_life(
    stateless_host: AdversarialHost, tmp_path: Path
) -> None:
    with connect(stateless_host, state=tmp_path / "s") as client:
        client.send(b"one")
        stateless_host.lose_reply(then=stateless_host.unreachable)
        with pytest.raises(OutcomeUnknown):
            client.send(b"two")
    stateless_host.restart()
    stateless_host.tamper = stateless_host.honest
    stateless_host.tamper_poll = lambda messages: []
    with connect(stateless_host, state=tmp_path / "s") as client:
        (resolved,) = client.recover()
        assert (resolved.body, resolved.fate) == (b"two", Fate.UNKNOWN)
        assert client.send(b"three").payload == b"done three"
    assert executed == [b"one", b"two", b"three"], "it was not sent again"


def test_a_stateless_enclaves_old_reply_counts_after_another_topic_found_the_restart_too(
    stateless_host: AdversarialHost, tmp_path: Path
) -> None:
    kept: list[bytes] = []

    def keep(envelope: bytes) -> bytes:
        kept.append(stateless_host.honest(envelope))
        raise HostUnavailable("lost on its way back")

    with connect(stateless_host, state=tmp_path / "s") as client:
        client.send(b"one")
        client.send(b"other", topic="t")
        stateless_host.tamper = keep
        with pytest.raises(OutcomeUnknown):
            client.send(b"two")
        stateless_host.tamper = stateless_host.honest
        stateless_host.tamper_poll = lambda messages: [*kept, *messages]
        stateless_host.restart()
        with pytest.raises(OutcomeUnknown, match="has restarted"):
            client.send(b"found out", topic="t")
        (resolved,) = client.recover()
        assert (resolved.body, resolved.fate) == (b"two", Fate.EXECUTED), "the host had kept the reply"
        assert client.send(b"three").payload == b"done three", "numbers start again all the same"
        assert client.send(b"four", topic="t").payload == b"done four"
    assert executed == [b"one", b"other", b"two", b"three", b"four"]


def test_a_stateless_enclave_gives_nothing_to_wait_for_or_to_invite_with(stateless_host: AdversarialHost) -> None:
    from client import InvalidInput

    with connect(stateless_host) as client:
        receipt = client.send(b"one").receipt
        with pytest.raises(InvalidInput, match="keeps no state"):
            client.wait_stable(receipt)
        with pytest.raises(InvalidInput, match="keeps no state"):
            client.invite()


def test_the_reply_of_the_last_life_is_still_accepted_if_the_host_kept_it(
    stateless_host: AdversarialHost, tmp_path: Path
) -> None:
    kept: list[bytes] = []
    with connect(stateless_host, state=tmp_path / "s") as client:
        client.send(b"one")

        def keep(envelope: bytes) -> bytes:
            kept.append(stateless_host.honest(envelope))
            stateless_host.restart()
            stateless_host.tamper = stateless_host.honest
            raise SessionUnknown("the host answered 409")

        stateless_host.tamper = keep
        stateless_host.tamper_poll = lambda messages: [*messages, *kept]
        assert client.send(b"two").payload == b"done two"
        with pytest.raises(OutcomeUnknown):
            client.send(b"three", topic="t")
        assert client.send(b"four").payload == b"done four", "numbers start again on this topic too"
    assert executed == [b"one", b"two", b"four"]
