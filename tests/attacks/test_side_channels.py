"""Rows 82 to 86: an observer compares what different workloads look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from attack_steps import Attack
from attacked_enclaves import Ledger, Veiled

from client import EnclaveClient, MailFailed
from host_store.adversary import Direction, MaliciousHost, StoreCall
from wire.record import HEADER_BYTES

ENTRIES, MAILS = 20, 40
VALUE = "v" * 300


def body(workload: str, number: int) -> bytes:
    hot, any_key, new = f"k{3:02}", f"k{number * 7 % ENTRIES:02}", f"k{number % ENTRIES:02}"
    match workload:
        case "hot":
            return f"put {hot} {VALUE}".encode()
        case "uniform":
            return f"put {any_key} {VALUE}".encode()
        case "sequential":
            return f"put {new} {VALUE}".encode()
        case "reading":
            return f"get {any_key} {VALUE}".encode()
        case "quiet":
            return f"quietly {any_key} {VALUE[:-4]}".encode()
        case "raising":
            return f"crash {hot} {VALUE}".encode()
        case "scanning":
            return f"nothing {VALUE}".encode()
    raise AssertionError(workload)


class Observed:
    """What an observer has of one workload."""

    def __init__(self, host: MaliciousHost, alice: EnclaveClient, workload: str) -> None:
        for number in range(ENTRIES):
            alice.send(f"put k{number:02} {VALUE}".encode())
        calls, messages, records = len(host.trace), len(host.archive.messages), len(host.archive.records)
        for number in range(MAILS):
            try:
                alice.send(body(workload, number))
            except MailFailed:
                assert workload == "raising"
        self.trace: list[StoreCall] = host.trace[calls:]
        self.messages = [
            (message.call, message.direction, len(message.data)) for message in host.archive.messages[messages:]
        ]
        self.records = host.archive.records[records:]


@pytest.fixture(scope="module")
def observe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Observed]]:
    seen: dict[str, Observed] = {}

    def look(workload: str) -> Observed:
        if workload not in seen:
            with MaliciousHost(Veiled, folder=tmp_path_factory.mktemp("observed")) as host:
                seen[workload] = Observed(host, host.client("alice"), workload)
        return seen[workload]

    yield look


WORKLOADS = ("hot", "sequential", "reading", "raising", "quiet", "scanning")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_row_82_sizes_of_blobs(observe: Callable[[str], Observed], attack: Attack, workload: str) -> None:
    one, other = observe(workload), observe("uniform")
    assert {len(record) for record in one.records} == {len(record) for record in other.records} == {4080}
    assert one.messages == other.messages, "requests and replies, whatever they ask and say"
    assert [call.outbox for call in one.trace] == [call.outbox for call in other.trace]
    attack.saw("equal")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_row_83_which_records_are_touched(observe: Callable[[str], Observed], attack: Attack, workload: str) -> None:
    one, other = observe(workload).trace, observe("uniform").trace
    assert [(call.call, call.n, call.tail) for call in one] == [(call.call, call.n, call.tail) for call in other]
    assert one[-1].tail > one[0].n, "old records are trimmed away, whichever keys are used"
    attack.saw("equal")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_row_84_sizes_of_commits_over_time(observe: Callable[[str], Observed], attack: Attack, workload: str) -> None:
    assert observe(workload).trace == observe("uniform").trace
    assert len(observe(workload).trace) == MAILS
    attack.saw("equal")


def test_row_85_equal_ciphertexts(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    for _ in range(20):
        alice.send(b"put x the-same-again")
    host.restart()
    for _ in range(20):
        alice.send(b"put x the-same-again")
    pieces: set[bytes] = set()
    blobs = [record[HEADER_BYTES:] for record in host.archive.records]
    blobs += [blob[18:] for blob in host.archive.outbox]
    blobs += [message.data[18:] for message in host.archive.sent("alice")]
    for blob in blobs:
        own = {blob[at : at + 8] for at in range(0, len(blob) - 8, 8)}
        assert not own & pieces
        pieces |= own
    assert len(blobs) > 100
    attack.saw("none")


def test_row_86_clients_linked_by_what_is_stable(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    """In one world the commits become stable, in the other they do not; what passes looks the same."""
    lengths = []
    for acknowledges in (True, False):
        host = malicious_host(Ledger)
        alice, bob = host.client("alice"), host.client("bob")
        for client in (alice, bob):
            client.send(b"get x")
        alice.send(b"put x 1")
        begin = len(host.archive.messages)
        stable = []
        for _ in range(8):
            # As many messages either way; only in the one world does bob show what he holds.
            if acknowledges:
                bob.heartbeat()
            else:
                alice.heartbeat()
            stable.append(alice.heartbeat().stable)
        assert (stable[-1] > stable[0]) is acknowledges
        lengths.append([(m.call, m.direction, len(m.data)) for m in host.archive.messages[begin:]])
        addresses = [message.data[2:18] for message in host.archive.sent("alice")]
        host.restart()
        alice.send(b"get x")
        assert host.archive.sent("alice")[-1].data[2:18] not in addresses, "a new session has a new, random address"
        for one, following in pairwise(host.archive.find("alice", Direction.REPLY)):
            assert one.data[18:50] != following.data[18:50]
    assert lengths[0] == lengths[1]
    attack.saw("equal")
