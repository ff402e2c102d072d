"""Mails and their replies between a real client and a real enclave, on a network that loses things."""

from __future__ import annotations

import pytest
from adversarial_host import AdversarialHost, connect, executed

from client import (
    Fate,
    HandlerFailed,
    HostUnavailable,
    InvalidInput,
    MailFailed,
    MailTooLarge,
    OutcomeUnknown,
    ReplyWithheld,
)
from wire.limits import MAX_BODY_BYTES


def test_a_mail_is_answered_with_a_payload_and_a_receipt(host: AdversarialHost) -> None:
    with connect(host) as client:
        first = client.send(b"one")
        second = client.send(b"two")
        assert (first.payload, second.payload) == (b"done one", b"done two")
        assert second.receipt.commit > first.receipt.commit > 0
        assert second.receipt.checkpoint is not None and second.receipt.checkpoint.size == second.receipt.commit
        assert client.receipt == second.receipt
        assert client.checkpoint == second.receipt.checkpoint
        assert executed == [b"one", b"two"]


def test_a_handler_that_returns_nothing_still_gives_a_receipt(host: AdversarialHost) -> None:
    with connect(host) as client:
        reply = client.send(b"nothing")
        assert reply.payload is None and reply.receipt.commit > 0


def test_a_handler_that_raises_fails_that_mail_and_no_other(host: AdversarialHost) -> None:
    with connect(host) as client:
        with pytest.raises(MailFailed, match=r"^not today$") as failed:
            client.send(b"reject not today")
        assert isinstance(failed.value, HandlerFailed)
        assert client.receipt == failed.value.receipt and failed.value.receipt.commit > 0
        with pytest.raises(MailFailed, match=r"^KeyError$"):
            client.send(b"crash")
        assert client.send(b"count").payload == b"1", "what the failed ones had counted was undone"


@pytest.mark.parametrize("length", [0, 1, 300, 100_000])
def test_bodies_and_payloads_of_any_length_arrive(host: AdversarialHost, length: int) -> None:
    with connect(host) as client:
        assert client.send(bytes(length)).payload == b"done " + bytes(length)


def test_a_body_over_the_bound_is_refused_before_anything_is_sent(host: AdversarialHost) -> None:
    with connect(host) as client:
        with pytest.raises(MailTooLarge):
            client.send(bytes(MAX_BODY_BYTES + 1))
        assert host.sent == []
        assert client.send(b"small").payload == b"done small"


@pytest.mark.parametrize("topic", ["", "a b", "ä", "x" * 129, "a\n", None])
def test_what_is_no_topic_is_refused_before_anything_is_sent(host: AdversarialHost, topic: str) -> None:
    with connect(host) as client:
        with pytest.raises(InvalidInput):
            client.send(b"x", topic=topic)
        assert host.sent == []


def test_topics_have_numbers_of_their_own(host: AdversarialHost) -> None:
    with connect(host) as client:
        for topic in ("a", "b", "a", "c", "b"):
            client.send(topic.encode(), topic=topic)
        streams = client._session.state.streams
        assert {topic: stream.sequence for topic, stream in streams.items()} == {"a": 2, "b": 2, "c": 1}


def test_a_lost_request_is_sent_again_and_executed_once(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.lose_request()
        assert client.send(b"25").payload == b"done 25"
        assert executed == [b"before", b"25"]
        assert host.sent[-1] == host.sent[-2], "the same bytes again"


def test_a_lost_reply_is_delivered_again_and_the_mail_not_executed_again(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.lose_reply()
        assert client.send(b"25").payload == b"done 25"
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"25", b"after"]


def test_without_any_answer_the_outcome_is_open_and_recover_settles_it(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.lose_reply(then=host.unreachable)
        with pytest.raises(OutcomeUnknown):
            client.send(b"executed")
        with pytest.raises(OutcomeUnknown):
            client.recover()
        host.tamper = host.honest
        (resolved,) = client.recover()
        assert (resolved.topic, resolved.body, resolved.fate) == ("default", b"executed", Fate.EXECUTED)
        assert resolved.reply is not None and resolved.reply.payload == b"done executed"
        assert client.recover() == []
        assert executed == [b"before", b"executed"]


def test_recover_carries_out_what_never_arrived_and_can_give_it_up_instead(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        for resend in (True, False):
            host.unreachable()
            with pytest.raises(OutcomeUnknown):
                client.send(b"lost")
            host.tamper = host.honest
            (resolved,) = client.recover(resend=resend)
            assert resolved.fate is (Fate.EXECUTED if resend else Fate.NOT_EXECUTED)
        assert executed == [b"before", b"lost"]
        given_up = host.sent[-2]
        host.honest(given_up)
        assert executed == [b"before", b"lost"], "what was given up is not executed later either"
        assert client.send(b"after").payload == b"done after"


def test_a_mail_that_failed_while_nobody_heard_it_is_recovered_as_failed(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.heartbeat()
        host.lose_reply(then=host.unreachable)
        with pytest.raises(OutcomeUnknown):
            client.send(b"reject no")
        host.tamper = host.honest
        (resolved,) = client.recover()
        assert resolved.fate is Fate.FAILED and str(resolved.error) == "no"


def test_the_next_mail_settles_the_one_before_it_first(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.heartbeat()
        host.unreachable()
        with pytest.raises(OutcomeUnknown):
            client.send(b"first")
        with pytest.raises(HostUnavailable, match="was not sent"):
            client.send(b"second")
        host.tamper = host.honest
        assert client.send(b"third").payload == b"done third"
        assert executed == [b"first", b"third"], "in order, and what was not sent never runs"


def test_other_topics_do_not_wait_for_an_open_outcome(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.heartbeat()
        host.unreachable()
        with pytest.raises(OutcomeUnknown):
            client.send(b"stuck", topic="a")
        host.tamper = host.honest
        assert client.send(b"free", topic="b").payload == b"done free"
        assert executed == [b"free"]


def test_a_mail_that_only_the_host_finds_too_large_is_not_executed(host: AdversarialHost) -> None:
    def refuse(envelope: bytes) -> bytes:
        if len(envelope) > 5000:
            raise MailTooLarge("the host answered 413: too large for me")
        return host.honest(envelope)

    with connect(host) as client:
        client.send(b"before")
        host.tamper = refuse
        with pytest.raises(MailTooLarge, match="too large for me"):
            client.send(bytes(9000))
        assert client.send(b"after").payload == b"done after"
        refused = next(envelope for envelope in host.sent if len(envelope) > 5000)
        host.honest(refused)
        assert executed == [b"before", b"after"]


def test_a_host_that_calls_an_executed_mail_too_large_cannot_hide_it(host: AdversarialHost) -> None:
    def lie(envelope: bytes) -> bytes:
        host.tamper = host.honest
        host.honest(envelope)
        raise MailTooLarge("the host answered 413: never saw that")

    with connect(host) as client:
        client.send(b"before")
        host.tamper = lie
        assert client.send(b"25").payload == b"done 25"
        assert executed == [b"before", b"25"]


def test_a_reply_that_the_host_lost_is_withheld_and_the_mail_executed(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        host.lose_reply()
        host.tamper_poll = lambda messages: []
        assert client.send(b"redelivered").payload == b"done redelivered"

        def withhold(envelope: bytes) -> bytes:
            host.honest(envelope)
            host.tamper = host.honest
            raise ReplyWithheld("the host answered 503: I lost it")

        host.tamper = withhold
        with pytest.raises(ReplyWithheld, match="was executed"):
            client.send(b"25")
        assert client.send(b"after").payload == b"done after"
        assert executed == [b"before", b"redelivered", b"25", b"after"]


def test_a_heartbeat_runs_no_handler_and_makes_a_commit(host: AdversarialHost) -> None:
    with connect(host) as client:
        first = client.send(b"one").receipt
        beat = client.heartbeat()
        assert beat.commit > first.commit and client.receipt == beat
        assert executed == [b"one"]


def test_waiting_makes_a_commit_stable(host: AdversarialHost) -> None:
    with connect(host) as client:
        receipt = client.send(b"one").receipt
        assert receipt.stable < receipt.commit
        client.wait_stable(receipt, timeout=10)
        assert client.receipt is not None and client.receipt.stable >= receipt.commit


def test_a_quorum_that_says_nothing_keeps_a_commit_unstable(host: AdversarialHost) -> None:
    with connect(host) as client, connect(host) as second, connect(host) as third:
        for voter in (second, third):
            voter.heartbeat()
        receipt = client.send(b"one").receipt
        with pytest.raises(HostUnavailable, match="has not become stable"):
            client.wait_stable(receipt, timeout=0.01)
        second.heartbeat()
        second.heartbeat()
        client.wait_stable(receipt, timeout=10)


def test_a_closed_client_says_so(host: AdversarialHost) -> None:
    client = connect(host)
    client.close()
    client.close()
    with pytest.raises(InvalidInput, match="closed"):
        client.send(b"x")
