"""Mails that the enclave sends on its own: all of them, in order, each once, or the client says which is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from adversarial_host import AdversarialHost, connect, executed

from client import EnclaveClient, GapRefused, InboxMail
from wire.errors import Fault
from wire.limits import MAX_INBOX_MAILS


def mail_to(sender: EnclaveClient, recipient: EnclaveClient, *bodies: bytes) -> None:
    for body in bodies:
        assert sender.send(b"mail " + recipient.client_id.encode() + b" " + body).payload == b"mailed"


def test_mails_arrive_in_order_and_once(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        assert bob.poll() == []
        mail_to(alice, bob, b"one", b"two")
        assert bob.poll() == [InboxMail(0, b"one"), InboxMail(1, b"two")]
        assert bob.poll() == []
        mail_to(alice, bob, b"three")
        assert bob.poll() == [InboxMail(2, b"three")]


def test_mails_sent_before_the_first_poll_or_across_a_restart_are_there(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one")
        host.restart()
        mail_to(alice, bob, b"two")
        assert bob.poll() == [InboxMail(0, b"one")], "the copy for the last session is as good"
        assert bob.poll() == [InboxMail(1, b"two")]
        host.restart()
        assert bob.poll() == []


def test_what_the_next_mail_acknowledges_the_host_forgets(host: AdversarialHost) -> None:
    kept: list[int] = []

    def count(messages: list[bytes]) -> list[bytes]:
        kept.append(len(messages))
        return messages

    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one", b"two")
        bob.poll()
        bob.heartbeat()
        host.tamper_poll = count
        bob.poll()
        assert kept[0] == 1, "only the reply to the heartbeat"


def test_taken_mails_survive_a_crash_of_the_client_and_count_after_a_clean_end(
    host: AdversarialHost, tmp_path: Path
) -> None:
    path = tmp_path / "bob"
    with connect(host) as alice:
        bob = connect(host, state=path)
        bob.heartbeat()
        mail_to(alice, bob, b"one", b"two")
        assert len(bob.poll()) == 2
        bob.heartbeat()  # acknowledges them: the enclave and the host forget them
        bob._driver._file.close()  # type: ignore[union-attr]  # the process is killed
        with connect(host, state=path) as bob:
            assert bob.poll() == [InboxMail(0, b"one"), InboxMail(1, b"two")], "nobody may have dealt with them"
        with connect(host, state=path) as bob:
            assert bob.poll() == []
        with pytest.raises(ZeroDivisionError), connect(host, state=path) as bob:
            mail_to(alice, bob, b"three")
            assert bob.poll() == [InboxMail(2, b"three")]
            raise ZeroDivisionError
        with connect(host, state=path) as bob:
            assert bob.poll() == [InboxMail(2, b"three")]


def test_a_mail_that_the_host_drops_is_missed(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one", b"two", b"three")
        host.tamper_poll = lambda messages: messages[:1] + messages[2:]
        # The heartbeat's reply is the first message, "one" the second.
        with pytest.raises(GapRefused, match="withholds inbox mail 0") as missed:
            bob.poll()
        assert missed.value.fault is Fault.HOST
        host.tamper_poll = lambda messages: messages
        assert [mail.body for mail in bob.poll()] == [b"one", b"two", b"three"]


def test_what_comes_before_a_missing_mail_is_taken_and_what_comes_after_waits(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one", b"two", b"three")
        missing: list[bytes] = []

        def drop(messages: list[bytes]) -> list[bytes]:
            missing.extend(messages[2:3] if not missing else ())  # after the heartbeat's reply and "one"
            return [message for message in messages if message not in missing]

        host.tamper_poll = drop
        assert [mail.body for mail in bob.poll()] == [b"one"]
        with pytest.raises(GapRefused, match="inbox mail 1"):
            bob.poll()
        host.tamper_poll = lambda messages: messages
        assert [mail.body for mail in bob.poll()] == [b"two", b"three"]


def test_all_mails_dropped_are_missed_at_the_next_hello(host: AdversarialHost, tmp_path: Path) -> None:
    path = tmp_path / "bob"
    with connect(host) as alice, connect(host, state=path) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one")
        host.tamper_poll = lambda messages: []
        assert bob.poll() == [], "within a session nothing tells of it"
        host.restart()
        with pytest.raises(GapRefused):
            bob.poll()
    with connect(host, state=path) as bob, pytest.raises(GapRefused):
        bob.poll()


def test_reordered_repeated_and_altered_mails_change_nothing(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one", b"two", b"three")
        host.tamper_poll = lambda messages: [b"junk", *reversed(messages), *messages, messages[1][:-1] + b"x"]
        assert [mail.body for mail in bob.poll()] == [b"one", b"two", b"three"]
        assert bob.poll() == []


def test_another_clients_mail_is_not_taken(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob, connect(host) as carol:
        bob.heartbeat()
        carol.heartbeat()
        mail_to(alice, bob, b"for bob")
        polled: list[list[bytes]] = []
        host.tamper_poll = lambda messages: polled.append(messages) or messages  # type: ignore[func-returns-value]
        bob.poll()
        host.tamper_poll = lambda messages: polled[0]
        assert carol.poll() == []


def test_more_mails_than_the_host_shows_at_once_come_page_by_page(
    host: AdversarialHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        for number in range(10):
            mail_to(alice, bob, b"%d" % number)
        host.restart()  # all of them are sealed anew, for the next session
        host.tamper_poll = lambda messages: messages[:4]
        taken: list[bytes] = []
        while len(taken) < 10:
            page = bob.poll()
            assert 0 < len(page) <= 4
            taken += [mail.body for mail in page]
        assert taken == [b"%d" % number for number in range(10)]


def test_the_client_keeps_a_bounded_number_of_mails(host: AdversarialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.acceptance.MAX_INBOX_MAILS", 3)
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, *(b"%d" % number for number in range(5)))
        assert [mail.number for mail in bob.poll()] == [0, 1, 2]
        assert [mail.number for mail in bob.poll()] == [3, 4]
    assert MAX_INBOX_MAILS > 3 and len(executed) == 5


def test_inbox_mails_count_as_evidence(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        bob.heartbeat()
        mail_to(alice, bob, b"one")
        bob.poll()
        assert alice.checkpoint == bob.checkpoint
        assert bob.send(b"x").payload == b"done x"
