"""A host that stands by: its enclave waits started, what is wrong is told before the waiting, its answer is 503."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import host_enclaves
import pytest
from memory_engine import MemoryEngine

from benchmarks.child import children_of
from client import HostUnavailable as ClientSeesHostUnavailable
from client import KeyValueClient
from host_store import standby as standing_by
from host_store.channel import EnclaveChannel
from host_store.channel_factory import channel_factory
from host_store.host import EnclaveHost
from host_store.server import WebServer, bind
from host_store.standby import WaitingEnclave, stand_by
from host_store.standby_server import StandbyServer
from host_store.stores import url as urls
from host_store.stores.engine import EngineDown
from host_store.stores.url import StoreUrl, open_store
from host_store.supervisor import window
from wire.errors import HostUnavailable, InvalidInput, StoreUnavailable, WrongKey
from wire.tee.choice import TeeChoice

HERE = Path(host_enclaves.__file__).parent
URL = "s3://bucket/prefix"
SECONDS = 60.0


class Switched(MemoryEngine):
    """One that can be away."""

    away = False

    def get(self, name: str, seconds: float) -> bytes | None:
        if self.away:
            raise EngineDown("the engine is away")
        return super().get(name, seconds)


@pytest.fixture(autouse=True)
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What every store in this test is kept in."""
    objects: dict[str, bytes] = {}
    options = urls.Options(timeout=0.2, lease=30.0)  # longer than a test: only who leaves in order is followed
    monkeypatch.setattr(urls, "connect", lambda url: (Switched(objects), options))
    monkeypatch.setattr(Switched, "away", False)
    return objects


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "shared.key"


@pytest.fixture
def serving(key: Path) -> Iterator[EnclaveHost]:
    with EnclaveHost.start(host_enclaves.Ledger, URL, in_process=True, simulated_key=key) as host:
        yield host


class Waiting:
    """A host that stands by, in a thread of its own, and the channels of its enclave."""

    def __init__(self, key: Path, pool: ThreadPoolExecutor, spec: str = "host_enclaves:Ledger") -> None:
        self.channels: list[EnclaveChannel] = []
        self.waits = threading.Event()
        make = channel_factory(spec, TeeChoice(simulated_key=key), False, HERE)

        def open_channel(on_end: Callable[[], None]) -> EnclaveChannel:
            self.channels.append(make(on_end))
            return self.channels[-1]

        def run() -> WaitingEnclave:
            store, enclave = stand_by(StoreUrl.parse(URL), open_channel, lambda other: self.waits.set())
            store.close()
            return enclave

        self.ended: Future[WaitingEnclave] = pool.submit(run)

    def wait_until_ready(self) -> None:
        while not self.waits.wait(0.01):
            assert not self.ended.done(), self.ended.result()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not true():  # the test's own timeout ends it
        pause.wait(0.01)


def test_the_enclave_that_waited_is_the_one_that_serves(
    serving: EnclaveHost, key: Path, pool: ThreadPoolExecutor
) -> None:
    assert serving.call(b"put a 1").result(SECONDS) == b"put"
    ready = threading.Event()
    names: list[str] = []

    def on_wait(other: str) -> None:
        names.append(other)
        ready.set()

    def start() -> EnclaveHost:
        return EnclaveHost.start(
            "host_enclaves:Ledger", URL, simulated_key=key, import_from=HERE, standby=True, on_wait=on_wait
        )

    starting = pool.submit(start)
    assert ready.wait(SECONDS)
    (waiting,) = _enclaves_of_this_process()
    assert serving.call(b"put b 2").result(SECONDS) == b"put"  # the one that serves is not disturbed
    assert not starting.done()
    serving.close()
    with starting.result(SECONDS) as host:
        assert host.status().pid == waiting
        assert host.status().starts == 1
        assert host.call(b"keys").result(SECONDS) == b"a b"
        host.restart()  # a factory like any other afterwards
        assert host.status().pid not in (None, waiting)
        assert host.call(b"keys").result(SECONDS) == b"a b"
    assert len(names) == 1
    assert names[0].endswith(f"(process {os.getpid()})")


def _has_ended(channel: EnclaveChannel) -> bool:
    try:
        channel.check()
    except HostUnavailable:
        return True
    return False


def _enclaves_of_this_process() -> list[int]:
    children = children_of(os.getpid())
    return [pid for pid in children if b"host_enclaves:Ledger" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_an_enclave_in_the_hosts_own_process_waits_as_well(
    serving: EnclaveHost, key: Path, pool: ThreadPoolExecutor
) -> None:
    made = channel_factory(host_enclaves.Ledger, TeeChoice(simulated_key=key), True, None)
    waits = threading.Event()
    ended = pool.submit(stand_by, StoreUrl.parse(URL), made, lambda other: waits.set())
    assert waits.wait(SECONDS)
    serving.close()
    store, enclave = ended.result(SECONDS)
    assert store.head().n == 1
    channel = enclave(lambda: None)
    assert channel.start(store.keyring(), window(store, store.head())).n == 1
    channel.close()
    store.close()


@pytest.mark.usefixtures("serving")
def test_an_enclave_that_never_gets_ready_ends_the_waiting(
    key: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_by, "PREPARE_SECONDS", 0.5)
    waiting = Waiting(key, pool, "host_enclaves:NeverReady")
    with pytest.raises(HostUnavailable, match=r"not ready within 0\.5 s"):
        waiting.ended.result(SECONDS)
    assert not waiting.waits.is_set()


def test_an_enclave_that_is_killed_while_it_waits_is_started_again(
    serving: EnclaveHost, key: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_by, "PAUSE_SECONDS", 0.0)
    waiting = Waiting(key, pool)
    waiting.wait_until_ready()
    for count in (1, 2):
        pid = waiting.channels[-1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda count=count: len(waiting.channels) == count + 1)  # type: ignore[misc]
    serving.close()
    enclave = waiting.ended.result(SECONDS)
    channel = enclave(lambda: None)
    assert channel is waiting.channels[-1]
    channel.check()
    channel.close()


def test_an_enclave_that_cannot_be_started_again_ends_the_waiting_with_its_reason(
    serving: EnclaveHost, key: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_by, "PAUSE_SECONDS", 0.0)
    waiting = Waiting(key, pool)
    waiting.wait_until_ready()
    key.rename(key.with_suffix(".away"))
    pid = waiting.channels[-1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WrongKey, match="there is no key file"):
        waiting.ended.result(SECONDS)


def test_one_that_died_at_the_last_moment_is_replaced(key: Path) -> None:
    made = channel_factory("host_enclaves:Ledger", TeeChoice(simulated_key=key), False, HERE)
    enclave = WaitingEnclave(made)
    enclave.start(None)
    (pid,) = _enclaves_of_this_process()
    os.kill(pid, signal.SIGKILL)
    waiting = enclave._channel
    assert waiting is not None
    until(lambda: _has_ended(waiting))
    channel = enclave(lambda: None)
    assert channel.pid not in (None, pid)
    assert channel.start(None, ()).n == 1
    channel.close()


def test_the_end_of_the_enclave_that_waited_is_told_to_its_host(key: Path) -> None:
    enclave = WaitingEnclave(channel_factory("host_enclaves:Ledger", TeeChoice(simulated_key=key), False, HERE))
    enclave.start(None)
    ended = threading.Event()
    channel = enclave(ended.set)
    channel.kill()
    assert ended.wait(SECONDS)
    with pytest.raises(HostUnavailable, match="SIGKILL"):
        channel.check()
    channel.close()


@pytest.mark.parametrize(
    ("spec", "change", "error", "words"),
    [
        ("host_enclaves:Ledger", lambda key: key.write_bytes(bytes(32)), WrongKey, "sealed with another key"),
        ("host_enclaves:Ledger", lambda key: key.unlink(), WrongKey, "there is no key file"),
        ("host_enclaves:Ledger", lambda key: key.write_bytes(bytes(3)), InvalidInput, "does not hold 32 bytes"),
        ("host_enclaves:Nobody", lambda key: None, InvalidInput, "there is no Nobody"),
        ("no_such_module:Ledger", lambda key: None, InvalidInput, "cannot import no_such_module"),
        ("host_enclaves:Echo", lambda key: None, InvalidInput, "keeps none"),
    ],
    ids=["another key", "no key", "half a key", "no class", "no module", "no state"],
)
def test_what_is_wrong_is_told_before_the_waiting(
    spec: str,
    change: Callable[[Path], object],
    error: type[Exception],
    words: str,
    serving: EnclaveHost,
    key: Path,
    pool: ThreadPoolExecutor,
) -> None:
    change(key)
    waiting = Waiting(key, pool, spec)
    with pytest.raises(error, match=words):
        waiting.ended.result(SECONDS)
    assert not waiting.waits.is_set()
    assert serving.call(b"put a 1").result(SECONDS) == b"put"


def test_a_store_that_nobody_has_founded_yet_is_waited_for_as_well(key: Path, pool: ThreadPoolExecutor) -> None:
    first = open_store(URL)
    waiting = Waiting(key, pool)
    waiting.wait_until_ready()
    assert not key.exists()  # whose key it is is the founder's to say
    first.close()
    channel = waiting.ended.result(SECONDS)(lambda: None)
    assert channel.start(None, ()).n == 1
    channel.close()


def test_an_engine_that_is_away_is_told_at_first_and_waited_for_later(
    serving: EnclaveHost,
    key: Path,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Switched, "away", True)
    with pytest.raises(StoreUnavailable, match="the engine is away"):
        Waiting(key, pool).ended.result(SECONDS)
    monkeypatch.setattr(Switched, "away", False)
    waiting = Waiting(key, pool)
    waiting.wait_until_ready()
    monkeypatch.setattr(Switched, "away", True)
    until(lambda: "nobody can be seen serving the store" in caplog.text)
    monkeypatch.setattr(Switched, "away", False)
    serving.close()
    waiting.ended.result(SECONDS).close()


def test_to_stand_by_a_host_opens_its_store_itself(key: Path) -> None:
    with open_store(URL) as store, pytest.raises(InvalidInput, match="name it by its URL"):
        EnclaveHost.start(host_enclaves.Ledger, store, simulated_key=key, standby=True)


def ask(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def test_who_stands_by_answers_503_and_leaves_its_address_to_who_serves(serving: EnclaveHost) -> None:
    with bind("127.0.0.1:0") as listening:
        standing = StandbyServer(listening)
        standing.start()
        status, body = ask(standing.url, "GET", "/healthz")
        assert (status, body["status"], body["error"]) == (503, "standing by", "unavailable")
        assert ask(standing.url, "POST", "/deliver-mail", bytes(1000))[0] == 503
        with pytest.raises(ClientSeesHostUnavailable, match="this host stands by"):
            KeyValueClient.connect(standing.url, constraint="SEC:INSECURE", retry_delays=()).get("x")
        standing.stop()
        standing.stop()
        server, ready = WebServer(serving, listening), threading.Event()
        assert server.url == standing.url
        thread = threading.Thread(target=lambda: server.run(lambda _url: ready.set()))
        thread.start()
        assert ready.wait(SECONDS)
        status, body = ask(server.url, "GET", "/healthz")
        assert (status, body["status"]) == (200, "running")
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_standby_server_that_never_started_can_be_stopped() -> None:
    with bind("127.0.0.1:0") as listening:
        StandbyServer(listening).stop()
        assert listening.fileno() >= 0
