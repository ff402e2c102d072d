"""The core by itself: what is executed, what is refused first, what every mail gets back, and what a restart keeps."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from core_host import CoreHost, Rejected
from host_enclaves import Ledger
from raw_client import RawClient

from pmap import Enclave, Mail
from wire.alarm import Verdict, verify_alarm
from wire.boundary import AnswerKind, Rejection
from wire.checkpoint import verify_checkpoint
from wire.errors import (
    ClientStale,
    EvidenceInvalid,
    ForkDetected,
    InvalidInput,
    LimitExceeded,
    NotEnrolled,
    ReplayRefused,
    RollbackDetected,
)
from wire.limits import MAX_INBOX_BYTES, MAX_INBOX_MAILS, MAX_STREAMS_PER_CLIENT, MIB
from wire.mail import Outcome, RequestKind


def met(host: CoreHost) -> RawClient:
    client = RawClient()
    client.hello(host.document, host.deliver)
    return client


@pytest.fixture
def host() -> CoreHost:
    return CoreHost.found(Ledger)


@pytest.fixture
def alice(host: CoreHost) -> RawClient:
    return met(host)


# --- ordinary service ----------------------------------------------------------------------------------


def test_a_mail_is_executed_and_its_receipt_is_a_signed_checkpoint_of_its_commit(host, alice):
    reply = alice.send(b"put a 1", host.deliver)
    assert (reply.outcome, reply.payload) == (Outcome.EXECUTED, b"put")
    assert reply.checkpoint == host.core.checkpoint
    verify_checkpoint(reply.checkpoint, host.core.public_key)
    assert dict(host.core.map) == {"a": b"1"}


def test_a_handler_that_returns_nothing_or_raises_still_gives_a_receipt(host, alice):
    silent = alice.send(b"send " + alice.name.encode() + b" hi", host.deliver)
    assert (silent.outcome, silent.payload) == (Outcome.EXECUTED, None)
    refused = alice.send(b"reject no such account", host.deliver)
    assert (refused.outcome, refused.payload) == (Outcome.HANDLER_FAILED, b"no such account")
    assert refused.checkpoint is not None and refused.checkpoint.size == silent.checkpoint.size + 1
    assert "undone" not in host.core.map


class Careless(Enclave):
    persistent_map = True
    failures: ClassVar[dict[bytes, BaseException]] = {
        b"key": KeyError("bob's secret"),
        b"memory": MemoryError(),
        b"exit": SystemExit(3),
        b"recursion": RecursionError("deep"),
    }

    def receive_mail(self, mail: Mail) -> bytes | None:
        self.map["touched"] = mail.body
        self.send(mail.sender, b"never")
        if mail.body == b"type":
            return "text"  # type: ignore[return-value]
        if mail.body == b"long":
            return bytes(51 * MIB)
        if mail.body == b"full":
            self.map["x"] = bytes(20 * MIB)
        raise self.failures[mail.body]


@pytest.mark.parametrize("body", [b"key", b"memory", b"exit", b"recursion", b"type", b"long", b"full"])
def test_whatever_a_handler_does_wrong_undoes_everything_and_harms_no_later_mail(body):
    host = CoreHost.found(Careless)
    alice = met(host)
    before = dict(host.core.map.items())
    reply = alice.send(body, host.deliver)
    assert reply.outcome is Outcome.HANDLER_FAILED
    assert b"secret" not in (reply.payload or b"")
    assert dict(host.core.map.items()) == before
    assert not host.deliveries[-1].outbox[1:]  # the reply alone: no mail was sent
    again = host.start()
    assert dict(again.core.map.items()) == before


def test_mails_of_one_batch_share_a_commit_and_each_is_its_own_transaction(host):
    clients = [met(host) for _ in range(5)]
    before = len(host.records)
    bodies = [b"put a 0", b"put a 1", b"reject x", b"get a", b"put b 4"]
    answers = host.batch(*(client.seal(body) for client, body in zip(clients, bodies, strict=True)))
    replies = [client.accept(answer) for client, answer in zip(clients, answers, strict=True)]
    assert [reply.payload for reply in replies] == [b"put", b"put", b"x", b"1", b"put"]
    assert len(host.records) == before + 1
    assert len({reply.checkpoint for reply in replies}) == 1


def test_a_batch_that_would_outgrow_a_record_becomes_several_commits(host):
    clients = [met(host) for _ in range(4)]
    before = len(host.records)
    bodies = [b"put %d " % i + bytes([65 + i]) * (20 * MIB) for i in range(4)]
    answers = host.batch(*(client.seal(body) for client, body in zip(clients, bodies, strict=True)))
    sizes = [client.accept(answer).checkpoint.size for client, answer in zip(clients, answers, strict=True)]
    assert len(host.records) - before == 2
    assert sizes == [before + 1, before + 1, before + 2, before + 2]
    assert len(host.start().core.map) == 4


def test_the_hosts_call_runs_in_a_transaction_and_persists(host):
    assert host.call(b"put h 1") == (AnswerKind.CALL_DONE, b"put")
    assert host.call(b"reject by the enclave") == (AnswerKind.CALL_FAILED, b"by the enclave")
    assert dict(host.start().core.map) == {"h": b"1"}


def test_an_enclave_takes_no_mail_and_no_calls_unless_its_author_says_so():
    class Silent(Enclave):
        persistent_map = True

    host = CoreHost.found(Silent)
    reply = met(host).send(b"x", host.deliver)
    assert reply.outcome is Outcome.HANDLER_FAILED
    assert host.call(b"x")[0] is AnswerKind.CALL_FAILED


@pytest.mark.parametrize(
    "settings",
    [
        {"max_persistent_map_size": "16x"},
        {"max_persistent_map_size": 0},
        {"persistent_map": 1},
        {"voters": {"alice": 1}},
        {"sweep": "sometimes"},
        {"smallest_record": 5000},
        {"sweep": "full", "max_persistent_map_size": "1g"},
    ],
)
def test_settings_that_make_no_sense_are_refused_at_the_start(settings):
    with pytest.raises(InvalidInput):
        CoreHost.found(type("Odd", (Ledger,), settings))


# --- refused before executed ---------------------------------------------------------------------------


@pytest.mark.parametrize("back", [1, 2, 3])
@pytest.mark.parametrize("silent", [False, True])
def test_a_rolled_back_enclave_executes_nothing_and_says_why_for_good(host, alice, back, silent):
    for i in range(4):
        body = b"send %s %d" % (alice.name.encode(), i) if silent else b"put a %d" % i
        alice.send(body, host.deliver)
    stale = host.start(host.records[:-back])
    before = dict(stale.core.map.items())
    with pytest.raises(RollbackDetected) as caught:
        alice.hello(stale.document, stale.deliver)
    alarm = caught.value.alarm
    verify_alarm(alarm, host.core.public_key)
    assert (alarm.verdict, alarm.client, alarm.enclave.size) == (
        Verdict.ROLLBACK,
        alice.highest,
        len(host.records) - back,
    )
    # Sticky: for everybody, and over a restart.
    for again in (stale, stale.start()):
        with pytest.raises(RollbackDetected) as told:
            RawClient().hello(again.document, again.deliver)
        assert told.value.alarm == alarm
        assert again.call(b"put h 1")[0] is AnswerKind.CALL_FAILED
        assert dict(again.core.map.items()) == before


def test_a_rollback_under_an_open_session_is_refused_at_the_mail():
    """Bob's session opens on the stale enclave before it is known to be stale; his mail carries newer evidence."""
    host = CoreHost.found(Ledger)
    bob = met(host)
    early = bob.highest
    for _ in range(3):
        bob.send(b"put a 1", host.deliver)
    stale = host.start(host.records[:-3])
    late, bob.highest = bob.highest, early
    bob.hello(stale.document, stale.deliver)
    bob.highest = late
    bob.streams.clear()
    with pytest.raises(RollbackDetected):
        bob.send(b"put a 2", stale.deliver)
    assert "a" not in stale.core.map


def test_a_rolled_back_and_refilled_enclave_is_a_fork(host, alice):
    bob = met(host)
    fork = host.start()
    alice.send(b"put a 1", host.deliver)
    bob.hello(fork.document, fork.deliver)
    for i in range(3):
        bob.send(b"put b %d" % i, fork.deliver)
    with pytest.raises(ForkDetected) as caught:
        alice.hello(fork.document, fork.deliver)
    verify_alarm(caught.value.alarm, host.core.public_key)
    with pytest.raises(ForkDetected):
        bob.send(b"put b 9", fork.deliver)
    assert "a" not in fork.core.map and fork.core.map["b"] == b"2"


def test_a_client_with_forged_evidence_is_refused_alone_and_nobody_else_is_bothered(host, alice):
    mallory = met(host)
    true = mallory.highest
    mallory.highest = type(true)(true.store_id, true.size + 50, os.urandom(32), os.urandom(64))
    with pytest.raises(EvidenceInvalid):
        mallory.send(b"put m 1", host.deliver)
    assert host.core.alarm is None
    assert alice.mail(b"put a 1", host.deliver) == b"put"
    assert "m" not in host.core.map


def test_another_stream_shows_a_rollback_that_this_stream_cannot(host, alice):
    alice.send(b"put a 1", host.deliver, topic="one")
    kept = len(host.records)
    for _ in range(3):
        alice.send(b"put b 1", host.deliver, topic="two")
    stale = host.start(host.records[:kept])
    full, alice.highest = alice.highest, alice.stream("one").evidence
    alice.hello(stale.document, stale.deliver)
    alice.highest = full
    with pytest.raises(RollbackDetected):
        alice.send(b"put a 2", stale.deliver, topic="one")


def test_the_same_mail_again_is_redelivered_and_not_executed_again(host, alice):
    envelope = alice.seal(b"put a 1")
    first, records = host.deliver(envelope), len(host.records)
    host.call(b"put a changed")
    assert host.deliver(envelope) == first
    assert len(host.records) == records + 1
    assert host.core.map["a"] == b"changed"
    alice.accept(first)
    alice.send(b"put b 1", host.deliver)
    # Its evidence is old by now, and evidence is judged first.
    assert alice.open(host.deliver(envelope)).outcome is Outcome.REFUSED
    assert host.core.map["a"] == b"changed"


def test_the_same_mail_twice_in_one_batch_is_executed_once(host, alice):
    envelope = alice.seal(b"put a 1")
    records = len(host.records)
    first, second = host.batch(envelope, envelope)
    assert first == second
    assert len(host.records) == records + 1


def test_a_replayed_hello_is_refused_and_the_session_goes_on(host):
    alice = RawClient()
    hello = alice.seal_hello(host.document)
    alice.open_welcome(hello, host.deliver(hello))
    reply = alice.open(host.deliver(hello))
    assert reply.outcome is Outcome.REFUSED
    assert alice.mail(b"put a 1", host.deliver) == b"put"


def test_mails_and_hellos_of_another_epoch_are_unknown(host, alice):
    envelope = alice.seal(b"put a 1")
    hello = RawClient().seal_hello(host.document)
    again = host.start()
    for old in (envelope, hello):
        with pytest.raises(Rejected, match="SESSION_UNKNOWN"):
            again.deliver(old)


def test_the_same_two_mails_to_two_clones_in_opposite_order_join_nothing(host, alice):
    """The forks' epochs differ, so a mail that was sealed for one is noise to the other."""
    bob = met(host)
    mails = [alice.seal(b"put a 1"), bob.seal(b"put b 1")]
    one, other = host.start(), host.start()
    for fork, order in ((one, mails), (other, mails[::-1])):
        assert fork.batch(*order) == [Rejection.SESSION_UNKNOWN] * 2
    assert not one.core.map and not other.core.map


def test_every_flipped_byte_of_a_mail_or_hello_is_refused_unexecuted(host, alice):
    records = len(host.records)
    for envelope in (alice.seal(b"put a 1"), RawClient().seal_hello(host.document)):
        for at in range(len(envelope)):
            altered = bytearray(envelope)
            altered[at] ^= 0x40
            (answer,) = host.batch(bytes(altered))
            assert isinstance(answer, Rejection), at
    assert len(host.records) == records


def test_garbage_and_truncation_are_rejected(host, alice):
    envelope = alice.seal(b"put a 1")
    garbage = [b"", b"\x01", os.urandom(400), *(envelope[:cut] for cut in range(0, len(envelope), 7)), envelope + b"x"]
    for bad in garbage:
        (answer,) = host.batch(bad)
        assert isinstance(answer, Rejection)


def test_a_client_restored_from_a_backup_is_told_so_and_no_alarm_is_raised(host, alice):
    backup = (alice.highest, alice.stream("t").evidence, alice.stream("t").next)
    alice.send(b"put a 1", host.deliver)
    alice.send(b"put a 2", host.deliver)
    alice.highest, alice.stream("t").evidence, alice.stream("t").next = backup
    with pytest.raises(ClientStale):
        alice.send(b"put a 3", host.deliver)
    with pytest.raises(ClientStale):
        alice.hello(host.document, host.deliver)
    assert host.core.alarm is None
    assert host.core.map["a"] == b"2"


# --- RECOVER -------------------------------------------------------------------------------------------


def test_recover_tells_that_a_mail_was_executed_with_the_evidence_of_its_own_reply(host, alice):
    answer = host.deliver(alice.seal(b"put a 1"))
    original = alice.open(answer)
    again = host.start()
    alice.hello(again.document, again.deliver)
    for _ in range(3):  # each answer gets lost on the way
        told = alice.open(again.deliver(alice.seal(b"", kind=RequestKind.RECOVER)))
        assert (told.outcome, told.checkpoint) == (Outcome.RECOVERED, original.checkpoint)
    assert alice.recover(again.deliver) is Outcome.RECOVERED
    assert alice.mail(b"get a", again.deliver) == b"1"


def test_recover_fences_a_mail_that_was_not_executed(host, alice):
    alice.seal(b"put a 1")
    again = host.start()
    alice.hello(again.document, again.deliver)
    late = alice.seal(b"put a 1")
    fenced = alice.open(again.deliver(alice.seal(b"", kind=RequestKind.RECOVER)))
    told = alice.open(again.deliver(alice.seal(b"", kind=RequestKind.RECOVER)))
    assert (fenced.outcome, told.outcome) == (Outcome.FENCED, Outcome.FENCED)
    assert fenced.checkpoint == told.checkpoint
    refused = alice.open(again.deliver(late))
    assert refused.outcome is Outcome.REFUSED
    assert "a" not in again.core.map
    assert alice.recover(again.deliver) is Outcome.FENCED
    assert alice.mail(b"put a 2", again.deliver) == b"put"


def test_restarting_again_and_again_during_recover_is_harmless(host, alice):
    host.deliver(alice.seal(b"put a 1"))
    for _ in range(3):
        host = host.start()
        alice.hello(host.document, host.deliver)
        host.deliver(alice.seal(b"", kind=RequestKind.RECOVER))
    assert alice.recover(host.deliver) is Outcome.RECOVERED
    assert alice.mail(b"get a", host.deliver) == b"1"


# --- inboxes -------------------------------------------------------------------------------------------


def inbox_of(client: RawClient, host: CoreHost) -> list[tuple[int, bytes | None]]:
    replies = [client.open(message) for message in host.polled(client.session)]
    return [(reply.sequence, reply.payload) for reply in replies if reply.outcome is Outcome.INBOX]


def test_a_mail_to_another_client_waits_until_it_is_acknowledged_over_sessions_and_restarts(host, alice):
    bob = met(host)
    for word in (b"one", b"two"):
        alice.send(b"send " + bob.name.encode() + b" " + word, host.deliver)
    assert inbox_of(bob, host) == [(0, b"one"), (1, b"two")]
    again = host.start()
    again.loses()
    bob.hello(again.document, again.deliver)
    assert inbox_of(bob, again) == [(0, b"one"), (1, b"two")]
    bob.inbox_ack = 1
    bob.send(b"get x", again.deliver)
    assert inbox_of(bob, again) == [(1, b"two")]
    bob.hello(again.document, again.deliver)
    assert inbox_of(bob, again) == [(1, b"two")]
    bob.inbox_ack = 2
    bob.send(b"", again.deliver, kind=RequestKind.HEARTBEAT)
    assert inbox_of(bob, again) == []
    bob.inbox_ack = 3
    with pytest.raises(ClientStale, match="never sent"):
        bob.send(b"get x", again.deliver)


def test_a_mail_sent_and_sent_anew_in_one_batch_is_kept_once(host, alice):
    bob = met(host)
    hello = bob.seal_hello(host.document)
    host.batch(alice.seal(b"send " + bob.name.encode() + b" hi"), hello)
    assert inbox_of(bob, host) == [(0, b"hi")]
    bob.inbox_ack = 1
    bob.send(b"", host.deliver, kind=RequestKind.HEARTBEAT)
    assert all(address != bob.session or n == len(host.records) for (n, _), (address, _) in host.outbox.items())


def test_an_inbox_is_bounded_in_bytes(host, alice):
    bob = met(host)
    body = b"send " + bob.name.encode() + b" " + b"x" * MIB
    outcomes = [alice.send(body, host.deliver).outcome for _ in range(MAX_INBOX_BYTES // MIB + 1)]
    assert outcomes == [Outcome.EXECUTED] * (MAX_INBOX_BYTES // MIB) + [Outcome.HANDLER_FAILED]
    bob.inbox_ack = 1
    bob.send(b"", host.deliver, kind=RequestKind.HEARTBEAT)
    assert alice.send(body, host.deliver).outcome is Outcome.EXECUTED


def test_a_mail_to_a_stranger_or_a_full_inbox_fails_the_handler_alone(host, alice):
    for recipient in (b"00" * 32, b"zz", b"12"):
        assert alice.send(b"send " + recipient + b" x", host.deliver).outcome is Outcome.HANDLER_FAILED
    bob = met(host)
    for _ in range(MAX_INBOX_MAILS):
        host.call(b"send " + bob.name.encode() + b" x")
    reply = alice.send(b"send " + bob.name.encode() + b" x", host.deliver)
    assert reply.outcome is Outcome.HANDLER_FAILED and b"inbox" in (reply.payload or b"")


# --- enrolment, streams, stability ---------------------------------------------------------------------


class Club(Ledger):
    members: ClassVar[set[str]] = set()

    def admit(self, client: str) -> bool:
        if not self.members:
            raise ZeroDivisionError
        return client in self.members


class Nosy(Ledger):
    verdict: ClassVar[bool | None] = True

    def admit(self, client: str) -> bool:
        self.map["asked"] = client.encode()
        for other in self.known:
            self.send(other, b"somebody asks")
        if self.verdict is None:
            raise ZeroDivisionError
        return self.verdict

    known: ClassVar[list[str]] = []


@pytest.mark.parametrize("verdict", [True, False, None])
def test_what_admit_writes_or_sends_is_undone_whatever_it_says(verdict):
    Nosy.verdict, Nosy.known = True, []
    host = CoreHost.found(Nosy)
    bob = met(host)
    Nosy.verdict, Nosy.known = verdict, [bob.name]
    if verdict:
        met(host)
    else:
        with pytest.raises(NotEnrolled):
            met(host)
    assert "asked" not in host.core.map
    assert inbox_of(bob, host) == []
    host.call(b"send " + bob.name.encode() + b" first")
    assert inbox_of(bob, host) == [(0, b"first")]


def test_only_whom_the_enclave_admits_is_enrolled():
    host, alice = CoreHost.found(Club), RawClient()
    for members in (set(), {"somebody else"}):
        Club.members = members
        with pytest.raises(NotEnrolled):
            alice.hello(host.document, host.deliver)
    Club.members = {alice.name}
    alice.hello(host.document, host.deliver)
    assert alice.mail(b"put a 1", host.deliver) == b"put"


def test_streams_are_independent_and_bounded(host, alice):
    for topic in ("a", "b", "c"):
        for i in range(2):
            assert alice.mail(b"put %s %d" % (topic.encode(), i), host.deliver, topic) == b"put"
    for i in range(MAX_STREAMS_PER_CLIENT - 3):
        alice.mail(b"get a", host.deliver, f"t{i}")
    with pytest.raises(LimitExceeded):
        alice.send(b"get a", host.deliver, "one-too-many")


def test_stable_follows_what_a_majority_has_acknowledged_and_survives_a_restart(host):
    clients = [met(host) for _ in range(3)]
    sent = clients[0].send(b"put a 1", host.deliver).checkpoint.size
    assert clients[1].send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable < sent
    clients[0].send(b"", host.deliver, kind=RequestKind.HEARTBEAT)
    stable = clients[1].send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable
    assert stable >= sent
    again = host.start()
    clients[2].hello(again.document, again.deliver)
    assert clients[2].send(b"", again.deliver, kind=RequestKind.HEARTBEAT).stable >= stable


# --- an enclave that keeps nothing ---------------------------------------------------------------------


class Parrot(Enclave):
    def receive_mail(self, mail: Mail) -> bytes | None:
        return mail.body


def test_without_persistent_storage_no_state_leaves_and_clients_get_no_checkpoints():
    host = CoreHost.stateless(Parrot)
    alice = met(host)
    envelope = alice.seal(b"hi")
    answer = host.deliver(envelope)
    assert host.deliver(envelope) == answer
    reply = alice.accept(answer)
    assert (reply.payload, reply.checkpoint) == (b"hi", None)
    assert alice.mail(b"again", host.deliver) == b"again"
    assert host.records == [] and all(delivery.commit is None for delivery in host.deliveries)
    with pytest.raises(ReplayRefused):
        alice.stream("t").pending, alice.stream("t").next = envelope, 0
        alice.accept(host.deliver(envelope))


def test_a_map_that_was_not_asked_for_is_not_there():
    class Wishful(Enclave):
        def receive_mail(self, mail: Mail) -> bytes | None:
            self.map["a"] = b"1"
            return None

    host = CoreHost.stateless(Wishful)
    reply = met(host).send(b"x", host.deliver)
    assert reply.outcome is Outcome.HANDLER_FAILED and b"persistent_map = True" in (reply.payload or b"")
