"""Two hosts, one store: the lease keeps them polite, the log keeps them safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attacked_enclaves import Ledger
from click.testing import CliRunner
from shared_engines import engine, need

from benchmarks.engine_servers import KINDS
from benchmarks.takeover import main, take_over
from client import EnclaveClient, HostUnavailable, InProcessTransport, OutcomeUnknown
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
