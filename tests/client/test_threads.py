"""One client, many threads: topics are independent, the state file is shared, nothing is lost or done twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adversarial_host import AdversarialHost, connect, executed

from client import EnclaveClient, HostUnavailable
from wire.mail import EnvelopeKind, envelope_kind


def test_threads_on_topics_of_their_own_do_not_disturb_each_other(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "s") as client:

        def work(topic: str) -> list[bytes | None]:
            return [client.send(f"{topic}-{number}".encode(), topic=topic).payload for number in range(12)]

        topics = [f"t{number}" for number in range(6)]
        with ThreadPoolExecutor(len(topics)) as pool:
            replies = dict(zip(topics, pool.map(work, topics), strict=True))
        for topic in topics:
            assert replies[topic] == [f"done {topic}-{number}".encode() for number in range(12)]
        assert len(executed) == len(set(executed)) == 72
        for topic in topics:
            mine = [body for body in executed if body.startswith(topic.encode() + b"-")]
            assert mine == [f"{topic}-{number}".encode() for number in range(12)], "in order on each topic"
    hellos = [envelope for envelope in host.sent if envelope_kind(envelope) is EnvelopeKind.HELLO]
    assert len(hellos) == 1, "they share one session"


def test_threads_on_one_topic_take_turns(host: AdversarialHost) -> None:
    with connect(host) as client, ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda number: client.send(b"%d" % number).payload, range(20)))
        assert replies == [b"done %d" % number for number in range(20)]
        assert sorted(executed) == sorted(b"%d" % number for number in range(20))


def test_threads_survive_restarts_of_the_enclave_together(host: AdversarialHost, tmp_path: Path) -> None:
    restarts: list[int] = []
    guard = threading.Lock()

    def restart_at_times(envelope: bytes) -> bytes:
        with guard:
            if len(host.sent) in (20, 45):
                host.restart()
        if len(host.sent) % 11 == 0:
            host.honest(envelope)
            raise HostUnavailable("lost on its way back")
        return host.honest(envelope)

    with connect(host, state=tmp_path / "s", retry_delays=(0.0,) * 30, on_restart=lambda: restarts.append(1)) as client:
        host.tamper = restart_at_times

        def work(topic: str) -> None:
            for number in range(8):
                assert client.send(f"{topic}-{number}".encode(), topic=topic).payload is not None

        with ThreadPoolExecutor(5) as pool:
            list(pool.map(work, [f"t{number}" for number in range(5)]))
    assert len(executed) == len(set(executed)) == 40
    assert restarts


def test_the_state_file_holds_what_every_thread_did(host: AdversarialHost, tmp_path: Path) -> None:
    with connect(host, state=tmp_path / "s") as client, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: client.send(b"x%d" % number, topic=f"t{number}"), range(12)))
    with connect(host, state=tmp_path / "s") as client:
        assert client.recover() == []
        assert {s.sequence for s in client._session.state.streams.values()} == {1}
        assert client.send(b"more", topic="t3").payload == b"done more"


def test_a_callback_about_a_restart_holds_no_lock(host: AdversarialHost) -> None:
    seen: list[bytes | None] = []
    clients: list[EnclaveClient] = []

    def on_restart() -> None:
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(lambda: clients[0].send(b"elsewhere").payload).result(10))

    with connect(host, on_restart=on_restart) as client:
        clients.append(client)
        client.send(b"one")
        host.restart()
        client.send(b"two")
    assert seen == [b"done elsewhere"]
