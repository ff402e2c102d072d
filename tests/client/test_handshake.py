"""Attestations, pins and hellos: who may answer under a known address, and what a hello survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from adversarial_host import AdversarialHost, Forgetful, connect, executed

from client import (
    AttestationError,
    ClientStale,
    HostUnavailable,
    InvalidInput,
    Malformed,
    OutcomeUnknown,
    SessionUnknown,
    StoreReplaced,
)
from client.acceptance import accept_welcome, decode_recovered
from client.invite import Invite
from client.state import ClientState, Pin
from wire.attestation import Attestation
from wire.codec import pack
from wire.crypto import SigningKey
from wire.errors import LimitExceeded, NotEnrolled
from wire.mail import EnvelopeKind, Outcome, Reply, envelope_kind
from wire.simulated import SimulatedEvidence


def attest_otherwise(host: AdversarialHost, **changed: object) -> None:
    """Serve documents with these fields, and evidence that fits: anybody can make that of the simulated TEE."""
    genuine = host.host.attestation

    def forged() -> bytes:
        document = replace(Attestation.decode(genuine()), **changed)
        evidence = replace(SimulatedEvidence.decode(document.evidence), report_data=document.report_data())
        return replace(document, evidence=evidence.encode()).encode()

    host.attestation = forged  # type: ignore[method-assign]


def is_hello(envelope: bytes) -> bool:
    return envelope_kind(envelope) is EnvelopeKind.HELLO


@pytest.mark.parametrize(
    ("changed", "verdict", "sentence"),
    [
        ({"store_id": bytes(16)}, StoreReplaced, "another store"),
        ({"roster": bytes(32)}, AttestationError, "voters"),
        ({"checkpoint_key": SigningKey(bytes(32)).public}, AttestationError, "another key"),
        ({"persistent": False}, AttestationError, "keep state"),
    ],
)
def test_what_was_pinned_must_not_change(
    host: AdversarialHost, tmp_path: Path, changed: dict[str, object], verdict: type, sentence: str
) -> None:
    with connect(host, state=tmp_path / "s") as client:
        client.send(b"one")
        host.restart()
        attest_otherwise(host, **changed)
        with pytest.raises(verdict, match=sentence):
            client.send(b"two")
    with pytest.raises(verdict, match=sentence):
        connect(host, state=tmp_path / "s")
    assert executed == [b"one"]


def test_a_key_that_signs_no_checkpoint_of_the_store_is_found_at_the_first_welcome(host: AdversarialHost) -> None:
    attest_otherwise(host, checkpoint_key=SigningKey(bytes(32)).public)
    with connect(host) as client, pytest.raises(AttestationError, match="signs with another key"):
        client.send(b"x")
    assert executed == []


def test_an_invite_makes_new_voters_known(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "s") as client:
        client.send(b"one")
    with connect(host) as sponsor:
        sponsor.heartbeat()
        trusted = Invite.of(sponsor._session.state)
    invite = Invite(replace(trusted.pin, roster=bytes(32)), trusted.checkpoint)
    attest_otherwise(host, roster=bytes(32))
    with connect(host, state=tmp_path / "s", invite=invite.encode()) as client:
        assert client.identity is not None
    with connect(host, state=tmp_path / "s") as client:
        assert client.checkpoint is not None


def test_an_enclave_without_state_in_the_place_of_a_store_is_another_store(
    host: AdversarialHost, tmp_path: Path
) -> None:
    with connect(host, state=tmp_path / "s") as client:
        client.send(b"one")
    stateless = AdversarialHost(tmp_path / "none", Forgetful)
    with pytest.raises(StoreReplaced, match="keeps no state"):
        connect(stateless, state=tmp_path / "s")
    stateless.close()


def test_an_attestation_is_fetched_again_after_a_hiccup(host: AdversarialHost) -> None:
    genuine, asked = host.attestation, []

    def hiccup() -> bytes:
        asked.append(1)
        if len(asked) == 1:
            raise HostUnavailable("starting")
        return genuine()

    host.attestation = hiccup  # type: ignore[method-assign]
    with connect(host) as client:
        assert client.send(b"one").payload == b"done one"
    assert len(asked) == 2, "one document is enough for connecting and the first hello"


def test_a_lie_about_a_session_costs_a_hello_and_nothing_else(host: AdversarialHost) -> None:
    def lie(envelope: bytes) -> bytes:
        host.tamper = host.honest
        raise SessionUnknown("the host answered 409: never met")

    told: list[int] = []
    with connect(host, on_restart=lambda: told.append(1)) as client:
        client.send(b"one")
        host.tamper = lie
        assert client.send(b"two").payload == b"done two"
        assert client.send(b"three").payload == b"done three"
    assert executed == [b"one", b"two", b"three"]
    assert sum(map(is_hello, host.sent)) == 2
    assert told == [], "the epoch is the same: nothing restarted"


def test_a_session_lost_while_asking_what_became_of_a_mail_is_opened_again(host: AdversarialHost) -> None:
    lies = []

    def lie_about_mails(envelope: bytes) -> bytes:
        if is_hello(envelope) or len(lies) == 3:
            return host.honest(envelope)
        lies.append(envelope)
        raise SessionUnknown("the host answered 409: never met")

    with connect(host, retry_delays=(0.0,) * 5) as client:
        client.send(b"one")
        host.tamper = lie_about_mails
        assert client.send(b"two").payload == b"done two"
    assert executed == [b"one", b"two"]


def test_a_hello_that_mails_of_other_topics_overtook_is_said_again(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"a", topic="a")
        client.send(b"b", topic="b")

        def overtake_hello(envelope: bytes) -> bytes:
            if is_hello(envelope):
                host.tamper = host.honest
                client.send(b"b overtakes", topic="b")
                client.send(b"b again", topic="b")
            return host.honest(envelope)

        def lie(envelope: bytes) -> bytes:
            host.tamper = overtake_hello
            raise SessionUnknown("the host answered 409: never met")

        host.tamper = lie
        assert client.send(b"a too", topic="a").payload == b"done a too"
    assert sorted(executed) == [b"a", b"a too", b"b", b"b again", b"b overtakes"]


def test_a_question_that_mails_of_other_topics_overtook_is_put_again(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"a", topic="a")
        client.send(b"b", topic="b")

        def overtake(envelope: bytes) -> bytes:
            host.tamper = host.honest
            client.send(b"b overtakes", topic="b")
            client.send(b"b again", topic="b")
            return host.honest(envelope)

        host.unreachable()
        with pytest.raises(OutcomeUnknown):
            client.send(b"given up", topic="a")
        host.tamper = overtake
        (resolved,) = client.recover(resend=False)
        assert resolved.body == b"given up" and resolved.reply is None
        assert client.send(b"a too", topic="a").payload == b"done a too"
    assert sorted(executed) == [b"a", b"a too", b"b", b"b again", b"b overtakes"]


def test_a_poll_that_must_succeed_is_repeated(host: AdversarialHost) -> None:
    polls: list[int] = []

    def sometimes(messages: list[bytes]) -> list[bytes]:
        polls.append(1)
        if len(polls) in (1, 2):
            raise HostUnavailable("not now")
        return messages

    with connect(host) as client:
        client.send(b"before")
        host.tamper_poll = sometimes
        host.lose_reply(then=host.restart)
        assert client.send(b"25").payload == b"done 25"
        polls.clear()
        assert client.poll() == [], "so is a poll for the inbox"
    assert executed == [b"before", b"25"]


def test_a_poll_that_never_succeeds_leaves_the_outcome_open(host: AdversarialHost) -> None:
    def never(messages: list[bytes]) -> list[bytes]:
        raise HostUnavailable("never")

    with connect(host) as client:
        client.send(b"before")
        host.tamper_poll = never
        host.lose_reply(then=host.restart)
        with pytest.raises(OutcomeUnknown):
            client.send(b"25")
        with pytest.raises(HostUnavailable):
            client.poll()
        host.tamper_poll = lambda messages: messages
        assert client.recover()[0].body == b"25"
    assert executed == [b"before", b"25"]


def test_a_client_that_is_not_admitted_is_told_so(host: AdversarialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.enclave, "admit", lambda self, client: False)
    with connect(host) as client, pytest.raises(NotEnrolled):
        client.send(b"x")
    assert executed == []


def test_a_full_enclave_says_so(host: AdversarialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmap.hello.MAX_CLIENTS", 1)
    with connect(host) as first, connect(host) as second:
        first.send(b"x")
        with pytest.raises(LimitExceeded):
            second.send(b"y")
        assert first.send(b"z").payload == b"done z"


def test_settings_that_make_no_sense_are_refused(host: AdversarialHost) -> None:
    with pytest.raises(InvalidInput, match="name the file"):
        connect(host, state_key=bytes(32))
    with pytest.raises(InvalidInput):
        connect(host, constraint="")
    assert host.sent == []


def test_a_state_is_let_go_of_when_connecting_fails(host: AdversarialHost, tmp_path: Path) -> None:
    for settings in ({"constraint": "C:" + "0" * 64 + " SEC:INSECURE"}, {"invite": "pmap-invite:1:AAAA"}):
        with pytest.raises((AttestationError, InvalidInput)):
            connect(host, state=tmp_path / "s", **settings)
    connect(host, state=tmp_path / "s").close()


def test_a_welcome_that_acknowledges_what_was_never_taken_shows_a_stale_state() -> None:
    state = ClientState(bytes(32), pin=Pin(bytes(16), bytes(32), bytes(32), True), inbox_next=2)
    welcome = Reply(Outcome.WELCOME, "hello", 0, bytes(32), None, 0, pack([2, 5]))
    accept_welcome(state, welcome)
    assert state.inbox_announced == 5
    with pytest.raises(ClientStale):
        accept_welcome(state, welcome._replace(payload=pack([3, 5])))
    for payload in (None, b"", pack([1]), pack([1, b""]), bytes(300)):
        with pytest.raises(Malformed):
            accept_welcome(state, welcome._replace(payload=payload))


def test_a_recovered_answer_names_an_outcome_and_a_digest() -> None:
    answer = Reply(Outcome.RECOVERED, "t", 0, bytes(32), None, 0, pack([int(Outcome.EXECUTED), bytes(32)]))
    assert decode_recovered(answer) == (Outcome.EXECUTED, bytes(32))
    for payload in (None, b"", pack([int(Outcome.FENCED), bytes(32)]), pack([99, bytes(32)]), pack([1, b"short"])):
        with pytest.raises(Malformed):
            decode_recovered(answer._replace(payload=payload))
