"""The persistent map, as users of enclaves with persistent maps know it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from attacked_enclaves import Forgetful, Ledger, Roomy

from client import HandlerFailed, MailFailed, RollbackDetected
from host_store.adversary import MaliciousHost

CHANGES: dict[str, tuple[Sequence[bytes], bytes]] = {
    "new entry": ([b"put key new"], b"new"),
    "modified entry": ([b"put key new", b"put key modified"], b"modified"),
    "deleted entry": ([b"put key new", b"delete key "], b"nothing"),
    "modified, then deleted": ([b"put key new", b"put key modified", b"delete key "], b"nothing"),
}
RESTARTS = ("after all mails", "after each mail", "once before the read")


@pytest.mark.parametrize("process", [False, True], ids=["in process", "own process"])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_survive_restarts(malicious_host: Callable[..., MaliciousHost], change: str, process: bool) -> None:
    host = malicious_host(Ledger, process=process)
    alice = host.client("alice")
    mails, expected = CHANGES[change]
    for restarts in RESTARTS:
        for mail in mails:
            alice.send(mail)
            if restarts == "after each mail":
                host.restart()
        if restarts == "after all mails":
            host.crash()
        if restarts == "once before the read":
            assert alice.send(b"get key").payload == expected
            host.restart()
        assert alice.send(b"get key").payload == expected
        if expected != b"nothing":
            alice.send(b"delete key ")


def test_it_is_off_by_default_and_then_no_state_leaves_and_clients_get_no_checkpoints(
    malicious_host: Callable[..., MaliciousHost],
) -> None:
    assert "persistent_map" not in vars(Forgetful)
    host = malicious_host(Forgetful)
    alice = host.client("alice")
    reply = alice.send(b"x")
    assert reply.payload == b"done x"
    assert reply.receipt.checkpoint is None and reply.receipt.commit == 0 and alice.checkpoint is None
    assert list(host.archive.blobs()) == [] and host.trace == []


@pytest.mark.parametrize("states", [1, 2, 3])
@pytest.mark.parametrize("replies", [True, False], ids=["with replies", "without any"])
def test_the_host_cannot_take_states_back(host: MaliciousHost, states: int, replies: bool) -> None:
    alice = host.client("alice")
    alice.send(b"put x 0")
    old = host.snapshot()
    for number in range(states):
        payload = alice.send(b"%s x %d" % (b"put" if replies else b"quietly", number)).payload
        assert (payload is not None) is replies
    host.restore(old)
    with host.refuses(RollbackDetected):
        alice.send(b"get x")


def test_what_a_call_of_the_host_changes_persists(host: MaliciousHost) -> None:
    assert host.call(b"put x by-the-host") == b"by-the-host"
    host.crash()
    assert host.call(b"get x") == b"by-the-host"
    assert host.client("alice").send(b"get x").payload == b"by-the-host"


def test_a_map_over_its_size_is_refused_at_the_put(host: MaliciousHost) -> None:
    alice = host.client("alice")
    with pytest.raises(MailFailed, match="MapFull"):
        alice.send(b"fill x 65536")
    host.restart()
    assert alice.send(b"get x").payload == b"nothing"
    assert isinstance(MailFailed("", alice.heartbeat()), HandlerFailed)


def test_many_senders_with_large_values_and_restarts(malicious_host: Callable[..., MaliciousHost]) -> None:
    """Ten at once, 200 puts of 10 KiB each, and three restarts among them."""
    senders, puts, size = 10, 200, 10 * 1024
    host = malicious_host(Roomy)
    clients = [host.client(f"sender-{number}", retry_delays=(0.0,) * 20) for number in range(senders)]
    halfway = threading.Semaphore(0)

    def send(number: int) -> None:
        for put in range(puts):
            assert clients[number].send(b"fill %d/%d %d" % (number, put, size)).payload == b"filled"
            halfway.release()

    with ThreadPoolExecutor(senders) as pool:
        sending = [pool.submit(send, number) for number in range(senders)]
        for _ in range(3):
            for _ in range(senders * puts // 4):
                assert halfway.acquire(timeout=100)
            host.running().restart()
        for one in sending:
            one.result()
    host.restart()
    reader = clients[0]
    assert reader.send(b"count").payload == str(senders * puts).encode()
    assert reader.send(b"length 9/199").payload == str(size).encode()
    assert all(client.verdict is None for client in clients)
