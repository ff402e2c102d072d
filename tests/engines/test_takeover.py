"""Two hosts, one store: the lease keeps them polite, the log keeps them safe."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from attacked_enclaves import Ledger
from click.testing import CliRunner
from shared_engines import engine, need

from benchmarks.child import children_of
from benchmarks.engine_servers import KINDS, wait_until
from benchmarks.takeover import SECONDS, Host, main, take_over
from client import EnclaveClient, HostUnavailable, InProcessTransport, KeyValueClient, OutcomeUnknown
from host_store.cli import main as command
from host_store.host import EnclaveHost
from host_store.stores.engine import Patience
from host_store.stores.log_store import LogStore
from host_store.stores.tenure import Tenure, read_beat, wait_for_vacancy
from host_store.stores.url import StoreUrl, connect, open_store
from wire.errors import StoreFenced, StoreLocked


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return engine(request.param).url(tmp_path.name)


class Hosts:
    """Hosts with one enclave, all on one store, none of them polite."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self._url, self._folder, self._stack = url, folder, stack

    def start(self, name: str) -> EnclaveHost:
        reached, _options = connect(StoreUrl.parse(self._url))
        store = LogStore.open(reached, name)
        self._stack.callback(store.close)
        key = self._folder / "shared.key"
        return self._stack.enter_context(EnclaveHost.start(Ledger, store, in_process=True, simulated_key=key))

    def client(self, host: EnclaveHost, name: str) -> EnclaveClient:
        return EnclaveClient.connect(
            InProcessTransport(host), constraint="SEC:INSECURE", state=self._folder / f"{name}.state", retry_delays=()
        )


@pytest.fixture
def hosts(url: str, tmp_path: Path) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(url, tmp_path, stack)


def test_the_old_host_is_fenced_and_its_client_goes_on_at_the_new_one(hosts: Hosts) -> None:
    one = hosts.start("one")
    with hosts.client(one, "alice") as alice:
        assert alice.send(b"add x 1").payload == b"1"
        two = hosts.start("two")
        with pytest.raises((OutcomeUnknown, HostUnavailable)):
            alice.send(b"add x 10")
    assert isinstance(one.failure, StoreFenced)
    assert "the host two has taken over" in str(one.failure)
    with hosts.client(two, "alice") as alice:
        alice.recover()  # a new epoch: the mail that only the fenced enclave executed never happened, or is done now
        assert alice.send(b"get x").payload in (b"1", b"11")
        assert alice.send(b"add x 100").payload in (b"101", b"111")
        assert alice.verdict is None


def test_two_hosts_that_fight_never_fork_the_store(hosts: Hosts, tmp_path: Path) -> None:
    done = 0
    for number in range(6):
        host = hosts.start(f"host {number}")
        with hosts.client(host, "alice") as alice:
            alice.recover()
            before = int(alice.send(b"add x 0").payload or b"")
            assert before in (done, done + 1)
            done = int(alice.send(b"add x 1").payload or b"")
            assert done == before + 1
            assert alice.verdict is None


def test_a_host_that_is_served_by_another_one_says_so_and_takes_over_when_that_one_leaves(url: str) -> None:
    shared = f"{url}{'&' if '?' in url else '?'}lease=0.6"
    first = open_store(shared)
    with pytest.raises(StoreLocked, match="serves the store"):
        open_store(shared)
    waited: list[str] = []
    second: list[LogStore] = []

    def stand_by() -> None:
        store = open_store(shared, standby=True, on_wait=waited.append)
        assert isinstance(store, LogStore)
        second.append(store)

    thread = threading.Thread(target=stand_by)
    thread.start()
    time.sleep(1.0)
    assert waited and not second
    first.close()
    thread.join(30)
    assert not thread.is_alive()
    second[0].close()


def test_a_lease_that_nobody_renews_lapses(url: str) -> None:
    reached, _options = connect(StoreUrl.parse(url))
    patience = Patience()
    tenure = Tenure(reached, patience, "gone", 0.6)
    tenure._stopping.set()  # as a host that was killed
    tenure._thread.join()
    assert read_beat(reached, patience) is not None
    begun = time.monotonic()
    wait_for_vacancy(reached, patience, standby=False)
    assert time.monotonic() - begun >= 0.6
    reached.close()


@pytest.fixture
def serve(url: str, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Runs ``pmap serve`` on one store."""
    shared = f"{url}{'&' if '?' in url else '?'}lease=0.6"
    with ExitStack() as stack:

        def start(name: str, *options: str) -> Host:
            host = Host(shared, tmp_path, name, *options)
            stack.callback(host.kill)
            return host

        yield start


def test_a_process_that_stands_by_answers_503_until_it_serves_with_the_enclave_that_waited(
    serve: Callable[..., Host], tmp_path: Path
) -> None:
    def connect_to(url: str) -> KeyValueClient:
        return KeyValueClient.connect(
            url, constraint="SEC:INSECURE", state=tmp_path / "client.state", retry_delays=(0.1,) * 100
        )

    first = serve("first")
    with connect_to(first.url()) as client:
        client.put("before", b"1")
    second = serve("second", "--standby")
    wait_until(lambda: "answers 503" in second.says(), "a standby's start", SECONDS)
    address = second.says().partition("until then ")[2].split()[0]
    with pytest.raises(HTTPError) as told:
        urlopen(f"{address}/healthz", timeout=SECONDS)
    assert told.value.code == 503
    assert json.load(told.value)["status"] == "standing by"
    (killed,) = children_of(second.process.pid)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: "was started again" in second.says(), "a new enclave", SECONDS)
    (waiting,) = children_of(second.process.pid)
    first.kill()
    with connect_to(address) as client:  # it asks again while the answer is 503
        assert client.get("before") == b"1"
    assert second.url() == address
    assert children_of(second.process.pid) == [waiting]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # which one makes no difference here
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--simulated-key", "{folder}/other.key"], "Error: wrong key: this store was sealed with another key"),
        (["--simulated-key", "{folder}/none.key"], "Error: wrong key: there is no key file"),
        (["no_such_module:Enclave"], "Error: cannot import no_such_module"),
        (["--listen", "{used}"], "Error: cannot listen on {used}: Address already in use"),
    ],
    ids=["another key", "no key", "no module", "no port"],
)
def test_a_process_that_could_not_take_over_says_so_before_it_waits(
    options: list[str], sentence: str, tmp_path: Path, serve: Callable[..., Host]
) -> None:
    used = serve("first").url().partition("//")[2]
    (tmp_path / "other.key").write_bytes(bytes(32))
    standby = serve("second", "--standby", *(option.format(folder=tmp_path, used=used) for option in options))
    assert standby.process.wait(SECONDS) == 1
    assert sentence.format(used=used) in standby.says()
    assert "waiting" not in standby.says()


@pytest.mark.timeout(180)
def test_the_time_of_a_takeover_is_measured_by_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    need("postgresql")
    assert main(["--engines", "postgresql", "--lease", "0.5", "--times", "1"]) == 0
    assert "from kill -9 to the first served mail, lease 0.5 s, 1 kills" in capsys.readouterr().out
    assert callable(take_over)


def test_a_store_is_saved_to_a_file_and_restored(url: str, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
        return f"{done.exit_code} {done.output.strip()}"

    file = tmp_path / "backup"
    assert "there is no store" in run("backup", "--store", url, file)
    with open_store(url) as store:
        store.create(b"keyring", b"one", bytes(32))
        assert "serves the store" in run("backup", "--store", url, tmp_path / "busy")
    assert run("backup", "--store", url, file).startswith("0 saved ")
    with open_store(url) as store:
        store.append(2, bytes(6 << 20), bytes(32), trim=0)
    assert run("restore", "--store", url, "--yes", __file__).startswith("1 Error: ")
    assert run("restore", "--store", url, "--yes", file).startswith("0 restored ")
    with open_store(url) as store:
        assert store.head().n == 1
        assert store.keyring() == b"keyring"
