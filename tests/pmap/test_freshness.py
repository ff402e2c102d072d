"""Every freshness rule by itself, on a small real history: what is executed, what is refused, and whose fault it is."""

from __future__ import annotations

import os

import pytest

from pmap.clients import UNRESOLVED, ClientState, StreamState
from pmap.freshness import Evidence, Ruling, rule_on_mail, rule_on_recover
from pmap.history import History
from wire.checkpoint import Checkpoint, encode_evidence, position, sign_checkpoint
from wire.crypto import SigningKey
from wire.errors import (
    ClientStale,
    EvidenceInvalid,
    EvidenceUnproven,
    ForkDetected,
    GapRefused,
    ProofInvalid,
    ReplayRefused,
    RollbackDetected,
)
from wire.limits import RECENT_ROOTS
from wire.mail import MAX_COUNTER, Outcome
from wire.merkle import Frontier, prove_consistency, subtree

KEY = SigningKey(bytes(32))
STORE = bytes(16)
COMMITS = 9


def leaf(i: int, branch: int = 0) -> bytes:
    return bytes([branch]) * 31 + bytes([i])


def grown(n: int, branch: int = 0, since: int = 0) -> History:
    history = History()
    for i in range(n):
        history.append(leaf(i, branch if i >= since else 0))
    return history


HISTORY = grown(COMMITS)


def signed(size: int, history: History = HISTORY, key: SigningKey = KEY) -> Checkpoint:
    root = history.root_at(size)
    assert root is not None
    return sign_checkpoint(key, STORE, size, root)


def at(size: int) -> bytes:
    root = HISTORY.root_at(size)
    assert root is not None
    return position(size, root)


EVIDENCE = Evidence(HISTORY, STORE, KEY.public)
STREAM = StreamState(acked=at(3), issued=at(5), next=2, outcome=Outcome.EXECUTED, mail=b"m" * 32)


# --- rule 1: the stream's evidence ---


def test_the_latest_evidence_and_the_one_before_are_told_apart():
    assert EVIDENCE.check_stream(signed(5).encode(), STREAM) is True
    assert EVIDENCE.check_stream(signed(3).encode(), STREAM) is False
    assert EVIDENCE.check_stream(b"", StreamState()) is True
    assert EVIDENCE.check_stream(b"", StreamState(issued=at(2))) is False


def test_evidence_of_more_commits_than_the_history_has_is_a_rollback():
    with pytest.raises(RollbackDetected) as caught:
        EVIDENCE.check_stream(signed(12, grown(12)).encode(), STREAM)
    assert caught.value.checkpoint == signed(12, grown(12))


def test_evidence_of_another_history_is_a_fork_at_any_size_up_to_now():
    for size in range(4, COMMITS + 1):
        with pytest.raises(ForkDetected) as caught:
            EVIDENCE.check_stream(signed(size, grown(12, branch=1, since=3)).encode(), STREAM)
        assert caught.value.checkpoint is not None


def test_evidence_that_this_store_never_signed_is_the_clients_fault_alone():
    stranger = SigningKey(b"\x01" * 32)
    forged = [
        signed(12, grown(12), key=stranger),
        signed(4, key=stranger),
        Checkpoint(STORE, 12, bytes(32), bytes(64)),
        sign_checkpoint(KEY, bytes(15) + b"\x01", 4, signed(4).root),
    ]
    for checkpoint in forged:
        with pytest.raises(EvidenceInvalid) as caught:
            EVIDENCE.check_stream(encode_evidence(checkpoint), STREAM)
        assert caught.value.checkpoint is None


@pytest.mark.parametrize("size", [1, 2, 4, 6, 9])
def test_signed_evidence_of_this_history_that_is_not_the_latest_is_a_stale_client(size):
    with pytest.raises(ClientStale) as caught:
        EVIDENCE.check_stream(signed(size).encode(), STREAM)
    assert caught.value.checkpoint is None


def test_no_evidence_where_some_was_issued_is_a_stale_client():
    with pytest.raises(ClientStale, match="lost its state"):
        EVIDENCE.check_stream(b"", STREAM)


def test_evidence_from_before_memory_is_unproven_until_the_host_shows_the_way():
    n = RECENT_ROOTS + 10
    history, frontier, leaves = History(), Frontier(), []
    for i in range(n):
        leaves.append(i.to_bytes(32, "little"))
        history.append(leaves[-1])
        frontier.append(leaves[-1])
        if frontier.size == 5:
            root = frontier.root()
    evidence = Evidence(history, STORE, KEY.public)
    claim = sign_checkpoint(KEY, STORE, 5, root)
    with pytest.raises(EvidenceUnproven) as caught:
        evidence.check_stream(encode_evidence(claim), STREAM)
    assert caught.value.checkpoint == claim  # what the host has to find a proof for

    def node(level: int, index: int) -> bytes:
        return subtree(level, index, leaves.__getitem__)

    proof = prove_consistency(5, n, node)
    with pytest.raises(ProofInvalid):
        history.learn(5, bytes(32), n, proof)
    history.learn(5, root, n, proof)
    with pytest.raises(ClientStale):
        evidence.check_stream(encode_evidence(claim), STREAM)
    with pytest.raises(ForkDetected):
        evidence.check_stream(sign_checkpoint(KEY, STORE, 5, bytes(32)).encode(), STREAM)


def test_a_position_whose_root_is_open_matches_nobodys_claim():
    """A client that guesses the coming commit's number cannot have a second mail executed in the same batch."""
    stream = StreamState(acked=at(3), issued=position(COMMITS + 1, UNRESOLVED), next=3)
    with pytest.raises(EvidenceInvalid):
        EVIDENCE.check_stream(Checkpoint(STORE, COMMITS + 1, UNRESOLVED, os.urandom(64)).encode(), stream)


# --- rule 2: the highest evidence ---

CLIENT = ClientState(acked=at(4), issued=at(7))


def highest(claim: Checkpoint | None, client: ClientState = CLIENT, *issued: bytes) -> None:
    EVIDENCE.check_highest(encode_evidence(claim), client, lambda: issued, hello=True)


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 9])
def test_highest_evidence_of_this_history_from_what_was_shown_before_on_is_accepted(size):
    highest(signed(size))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_highest_evidence_below_what_the_client_showed_before_is_stale(size):
    with pytest.raises(ClientStale, match="showed 4 before"):
        highest(signed(size))


def test_a_newcomer_needs_no_highest_evidence_and_a_known_client_does():
    highest(None, ClientState())
    with pytest.raises(ClientStale):
        highest(None)


def test_an_invites_evidence_is_judged_like_any_other():
    highest(signed(6), ClientState())
    with pytest.raises(RollbackDetected):
        highest(signed(12, grown(12)), ClientState())
    with pytest.raises(ForkDetected):
        highest(signed(6, grown(9, branch=2)), ClientState())


def test_highest_evidence_that_only_the_clients_own_entries_remember_is_accepted():
    empty = Evidence(History(), STORE, KEY.public)  # remembers no roots at all
    with pytest.raises(RollbackDetected):
        empty.check_highest(signed(6).encode(), CLIENT, list, hello=True)
    empty.check_highest(signed(6).encode(), CLIENT, lambda: [at(5), at(6)], hello=True)
    with pytest.raises(ClientStale):  # below what it showed before: its entry does not help
        empty.check_highest(signed(2).encode(), CLIENT, lambda: [at(2)], hello=True)


@pytest.mark.parametrize("size", [4, 7])
def test_highest_evidence_that_the_clients_entry_names_needs_no_memory_of_it(size):
    empty = Evidence(History(), STORE, KEY.public)
    empty.check_highest(signed(size).encode(), CLIENT, list, hello=True)  # what it showed, and what it was given
    with pytest.raises(RollbackDetected):
        empty.check_highest(signed(5).encode(), CLIENT, list, hello=True)


def test_highest_evidence_of_a_remembered_commit_is_recognised_without_a_scan_or_a_signature_check():
    def scan() -> list[bytes]:
        raise AssertionError("a slow path was taken")

    unsigned = at(6) + bytes(64)  # the position is this history's own: a signature over it proves nothing new
    EVIDENCE.check_highest(unsigned, CLIENT, scan, hello=True)
    with pytest.raises(EvidenceInvalid):
        EVIDENCE.check_highest(position(6, bytes(32)) + bytes(64), CLIENT, list, hello=True)


def test_mails_of_several_streams_may_overtake_each_other():
    EVIDENCE.check_highest(signed(2).encode(), CLIENT, list, hello=False)
    with pytest.raises(ForkDetected):
        EVIDENCE.check_highest(signed(2, grown(9, branch=1)).encode(), CLIENT, list, hello=False)
    with pytest.raises(ClientStale, match="lost its state"):
        EVIDENCE.check_highest(b"", CLIENT, list, hello=False)


# --- rule 3: sequence ---


def test_the_next_number_with_the_latest_evidence_executes():
    assert rule_on_mail(STREAM, True, 2, b"n" * 32) is Ruling.EXECUTE


def test_the_next_number_without_the_latest_evidence_is_a_stale_client():
    with pytest.raises(ClientStale):
        rule_on_mail(STREAM, False, 2, b"n" * 32)


def test_the_last_mail_again_is_redelivered_only_while_its_reply_is_not_acknowledged():
    assert rule_on_mail(STREAM, False, 1, b"m" * 32) is Ruling.REDELIVER
    with pytest.raises(ReplayRefused, match="acknowledged"):
        rule_on_mail(STREAM, True, 1, b"m" * 32)


def test_another_mail_under_the_last_number_is_a_stale_or_shared_client():
    with pytest.raises(ClientStale, match="another mail"):
        rule_on_mail(STREAM, False, 1, b"x" * 32)


@pytest.mark.parametrize("latest", [True, False])
def test_an_older_number_is_a_replay_and_one_beyond_a_gap(latest):
    with pytest.raises(ReplayRefused):
        rule_on_mail(STREAM, latest, 0, b"m" * 32)
    for beyond in (3, 4, MAX_COUNTER):
        with pytest.raises(GapRefused):
            rule_on_mail(STREAM, latest, beyond, b"m" * 32)


def test_a_stream_starts_at_zero():
    assert rule_on_mail(StreamState(), True, 0, b"m" * 32) is Ruling.EXECUTE
    with pytest.raises(GapRefused):
        rule_on_mail(StreamState(), True, 1, b"m" * 32)


def test_the_last_counter_there_is_executes_and_fences_nothing():
    """The number after it could not be written down."""
    used_up = StreamState(acked=at(3), issued=at(5), next=MAX_COUNTER, mail=b"m" * 32)
    with pytest.raises(ReplayRefused):
        rule_on_mail(used_up, True, MAX_COUNTER, b"n" * 32)
    with pytest.raises(ClientStale):
        rule_on_recover(used_up, True, MAX_COUNTER, b"n" * 32)
    one_before = StreamState(acked=at(3), issued=at(5), next=MAX_COUNTER - 1, mail=b"m" * 32)
    assert rule_on_mail(one_before, True, MAX_COUNTER - 1, b"n" * 32) is Ruling.EXECUTE
    assert rule_on_recover(one_before, True, MAX_COUNTER - 1, b"n" * 32) is Ruling.FENCE


# --- rule 4: RECOVER ---


def test_recover_tells_of_the_last_mail_and_fences_the_next():
    assert rule_on_recover(STREAM, False, 1, b"m" * 32) is Ruling.TELL
    assert rule_on_recover(STREAM, True, 2, b"n" * 32) is Ruling.FENCE


def test_a_fenced_mail_is_never_executed_and_can_be_asked_about_again():
    fenced = StreamState(acked=at(3), issued=at(5), next=2, outcome=Outcome.FENCED, mail=b"m" * 32)
    assert rule_on_recover(fenced, False, 1, b"m" * 32) is Ruling.TELL
    with pytest.raises(ReplayRefused, match="fenced"):
        rule_on_mail(fenced, False, 1, b"m" * 32)


@pytest.mark.parametrize(
    ("latest", "sequence", "mail", "error"),
    [
        (False, 2, b"n", ClientStale),
        (True, 0, b"m", ReplayRefused),
        (True, 3, b"m", GapRefused),
        (False, 1, b"x", ClientStale),
    ],
)
def test_recover_of_anything_else_is_refused(latest, sequence, mail, error):
    with pytest.raises(error):
        rule_on_recover(STREAM, latest, sequence, mail * 32)
