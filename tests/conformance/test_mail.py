"""Mail, as users of enclaves know it: numbers, corruption, atomic sends, sizes, topics, keys, padding."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from attacked_enclaves import Ledger, Veiled
from raw_client import RawClient

from client import (
    ClientStale,
    GapRefused,
    InvalidInput,
    MailFailed,
    Malformed,
    PmapError,
    ReplayRefused,
    SessionUnknown,
)
from host_store.adversary import MaliciousHost
from host_store.adversary.snapshot import flip_byte
from wire.errors import Undecryptable
from wire.limits import MAX_BODY_BYTES, MAX_TOPIC_BYTES
from wire.mail import Outcome
from wire.padding import at_least, no_padding, power_of_two


@pytest.fixture
def raw(host: MaliciousHost) -> RawClient:
    client = RawClient()
    client.hello(host.attestation(), host.deliver)
    return client


# --- sequence numbers ---


def test_numbers_start_at_zero(host: MaliciousHost, raw: RawClient) -> None:
    raw.stream("t").next = 1
    with host.refuses(GapRefused):
        raw.mail(b"add x 1", host.deliver)
    raw.stream("t").next = 0
    assert raw.mail(b"add x 1", host.deliver) == b"1"


def test_a_number_again_backwards_and_beyond_are_refused(host: MaliciousHost, raw: RawClient) -> None:
    for _ in range(4):
        raw.mail(b"add x 1", host.deliver)
    stream = raw.stream("t")
    for number, error in (
        (3, ReplayRefused),
        (1, ReplayRefused),
        (0, ReplayRefused),
        (5, GapRefused),
        (99, GapRefused),
    ):
        stream.next = number
        with host.refuses(error):
            raw.mail(b"add x 1", host.deliver)
    stream.next = 4
    assert raw.mail(b"get x", host.deliver) == b"4"


def test_topics_and_senders_are_independent(host: MaliciousHost, raw: RawClient) -> None:
    other = RawClient()
    other.hello(host.attestation(), host.deliver)
    for count in range(3):
        for client in (raw, other):
            for topic in ("one", "two"):
                assert client.stream(topic).next == count
                client.mail(b"add x 1", host.deliver, topic)
    assert raw.mail(b"get x", host.deliver, "three") == b"12"


# --- corruption ---


def test_every_byte_that_is_altered_is_noticed(host: MaliciousHost, raw: RawClient) -> None:
    mail = raw.seal(b"add x 1")
    for at in range(len(mail)):
        with host.refuses(_refusal_at(at)):
            host.deliver(flip_byte(mail, at, 1 << at % 8))
    assert raw.accept(host.deliver(mail)).payload == b"1"


def _refusal_at(at: int) -> type[PmapError]:
    if at < 2:
        return Malformed  # version and kind
    return SessionUnknown if at < 18 else Undecryptable


def test_truncation_is_noticed(host: MaliciousHost, raw: RawClient) -> None:
    mail = raw.seal(b"add x 1")
    for length in (0, 1, 2, 17, 18, 40, 66, len(mail) // 2, len(mail) - 1):
        with pytest.raises(Malformed):
            host.deliver(mail[:length])
    with pytest.raises(Malformed):
        host.deliver(mail + b"\x00")
    assert host.handlers_ran == 0


def test_wrong_keys_open_nothing(host: MaliciousHost, raw: RawClient) -> None:
    right = raw.secret
    raw.secret = os.urandom(32)
    with host.refuses(Undecryptable):
        raw.mail(b"add x 1", host.deliver)
    raw.secret = right
    other_epoch = RawClient()
    envelope = other_epoch.seal_hello(host.attestation())
    host.restart()
    with host.refuses(SessionUnknown):
        host.deliver(envelope)


# --- together or not at all ---


def test_outgoing_mails_and_the_state_leave_together(host: MaliciousHost) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    bob.send(b"get x")
    commits = host.commits
    alice.send(b"get x")
    for number in range(3):
        alice.send(f"mail {bob.client_id} {number}".encode())
    assert host.commits == commits + 5, "each mail is one commit, the hello one"
    host.crash()
    assert [mail.body for mail in bob.poll()] == [b"0", b"1", b"2"]
    appends = [call for call in host.trace if call.call == "append" and len(call.outbox) == 2]
    assert len(appends) >= 3, "the sender's reply and the other one's mail, in one append"


def test_an_exception_in_one_mail_has_no_effect_on_the_next(host: MaliciousHost) -> None:
    alice = host.client("alice")
    alice.send(b"put x 1")
    for body in (b"spoil x", b"crash x", b"add x no-number"):
        with pytest.raises(MailFailed):
            alice.send(body)
        assert alice.send(b"get x").payload == b"1"
    assert alice.poll() == []


def test_what_a_failed_mail_says_of_others_is_nothing(host: MaliciousHost) -> None:
    with pytest.raises(MailFailed) as caught:
        host.client("alice").send(b"crash x")
    assert "secret" not in str(caught.value) and "KeyError" in str(caught.value)


# --- sizes, topics, padding ---


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_536, 4 * 1024 * 1024, MAX_BODY_BYTES - 5])
def test_bodies_of_every_size(host: MaliciousHost, size: int) -> None:
    body = b"x" * size
    assert host.client("alice").send(body).payload == b"done " + body, "up to the largest payload"


def test_a_payload_over_the_bound_fails_its_own_mail_only(host: MaliciousHost) -> None:
    alice = host.client("alice")
    with pytest.raises(MailFailed, match="LimitExceeded"):
        alice.send(b"x" * MAX_BODY_BYTES)
    assert alice.send(b"get x").payload == b"nothing"


@pytest.mark.parametrize("topic", ["", "a" * (MAX_TOPIC_BYTES + 1), "a b", "ä", "a/b", "a\n", "\x00"])
def test_bad_topics_are_refused_before_anything_leaves(host: MaliciousHost, topic: str) -> None:
    alice = host.client("alice")
    with pytest.raises(InvalidInput):
        alice.send(b"x", topic=topic)
    assert host.archive.sent("alice") == []


@pytest.mark.parametrize(
    ("padding", "same", "different"),
    [(at_least(4096), (0, 3000), (3000, 9000)), (power_of_two, (1100, 1600), (1100, 3000)), (no_padding, (), (10, 11))],
    ids=["floor", "power of two", "none"],
)
def test_padding_policies(
    host: MaliciousHost, padding: Callable[[int], int], same: tuple[int, ...], different: tuple[int, ...]
) -> None:
    alice = host.client("alice", padding=padding)
    alice.send(b"")  # from now on there is evidence in each mail

    def length(size: int) -> int:
        alice.send(b"x" * size)
        return len(host.archive.sent("alice")[-1].data)

    assert len({length(size) for size in same}) <= 1
    assert len({length(size) for size in different}) == len(different)


def test_replies_are_padded_as_the_author_says(malicious_host: Callable[..., MaliciousHost]) -> None:
    lengths = []
    for enclave in (Ledger, Veiled):
        host = malicious_host(enclave)
        alice = host.client("alice")
        for body in (b"a", b"a" * 600):
            alice.send(body)
            lengths.append(len(host.archive.answers("alice")[-1].data))
    assert lengths[0] != lengths[1] and lengths[2] == lengths[3]


def test_outcomes_are_told_apart(host: MaliciousHost, raw: RawClient) -> None:
    assert raw.send(b"get x", host.deliver).outcome is Outcome.EXECUTED
    assert raw.send(b"spoil x", host.deliver).outcome is Outcome.HANDLER_FAILED
    with host.refuses(ClientStale):
        raw.stream("t").evidence = None
        raw.mail(b"get x", host.deliver)
