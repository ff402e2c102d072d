"""``pmap shards`` over real servers: found, look, move, grow; and a mover or a host that is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from killed_hosts import STRACE
from sharded_stores import memory_folder

from client.demo.server import HostProcess
from client.sharded import Cluster, Mover, ShardedKeyValueClient
from client.sharded.owner import owner_key
from host_store.cli import main

Pmap = Callable[..., Result]
ENTRIES = {f"k{number}": b"v%d" % number for number in range(300)}


@pytest.fixture(scope="module")
def servers() -> Iterator[list[HostProcess]]:
    """Three running servers; the first has its enclave in a process of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(memory_folder())
        hosts = [stack.enter_context(HostProcess(folder / str(number), in_process=number > 0)) for number in range(3)]
        for host in hosts:
            host.start()
        yield hosts


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where clients and the mover keep what they keep."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def pmap(folder: Path) -> Pmap:
    """Runs ``pmap shards`` in this process, in a folder of its own."""
    environment = {"PMAP_SHARDS": str(folder / "shards"), "PMAP_CONSTRAINT": "SEC:INSECURE"}

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["shards", *arguments], env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def connect(folder: Path, name: str = "alice") -> ShardedKeyValueClient:
    owner = next(line.split()[-1] for line in (folder / "founded").read_text().split("\n") if "owner" in line)
    shown = (folder / "shards" / "shards.map").read_text()
    return ShardedKeyValueClient.connect(owner, shown, folder=folder / name, constraint="SEC:INSECURE")


def test_a_cluster_is_founded_used_grown_and_moved_while_mover_and_host_are_killed(
    servers: list[HostProcess], pmap: Pmap, folder: Path
) -> None:
    first, second, third = servers
    said = pmap("create", first.url, second.url, "--partitions", "64").stdout
    assert "founded: 2 stores, 64 partitions" in said
    (folder / "founded").write_text(said.split("  (what")[0])
    assert "go on with 'pmap shards resume'" in pmap("create", first.url, code=1).stderr
    with connect(folder) as kv:
        kv.update(ENTRIES)
        owned = kv.shards.owned
    shown = pmap("show").stdout
    assert "shard map 1 of owner" in shown and second.url in shown
    assert "300 entries, each where shard map 1 says" in pmap("verify").stdout

    # The mover is killed at one sync of its own files after another: each is before or after a mail.
    command = [sys.executable, "-m", "host_store.cli", "shards", "move", ",".join(map(str, owned[0][:8])), "--to", "1"]
    options = ["--folder", str(folder / "shards"), "--constraint", "SEC:INSECURE"]
    assert STRACE is not None, "install strace (.ci/run does)"
    died = 0
    for number in (2, 5, 9, 13):
        inject = f"inject=fsync:signal=KILL:when={number}"
        run = [STRACE, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", inject, *command, *options]
        died += subprocess.run(run, capture_output=True, check=False).returncode != 0
        with connect(folder) as kv:
            assert kv["k7"] == b"v7" and dict(kv.scan()) == ENTRIES
    assert died >= 2
    first.kill()
    assert "Error" in pmap("resume", code=1).stderr
    first.start()
    pmap("resume")
    assert "300 entries, each where" in pmap("verify").stdout

    # Now the hosts are killed, one and the other, every few steps of a move back.
    key = owner_key(folder / "shards" / "owner.key", create=False)
    steps = count()

    def kill(step: str) -> None:
        number = next(steps)
        if number % 3 == 2:
            host = servers[number // 3 % 2]
            host.kill()
            host.start()

    with Cluster.open(key.public.hex(), folder=folder / "shards", constraint="SEC:INSECURE") as cluster:
        mover = Mover(cluster, key, kill)
        mover.begin_move(owned[0][:8], 0)
        mover.settle()
    assert next(steps) >= 12
    assert "300 entries, each where" in pmap("verify").stdout

    assert "has 3 stores" in pmap("add", third.url).stdout
    said = pmap("rebalance", "--at-once", "64").stdout
    assert "to store 2" in said and "every partition is where it belongs" in said
    assert "300 entries, each where" in pmap("verify").stdout
    with connect(folder, "newcomer") as kv:
        assert len(kv.shards.stores) == 3 and dict(kv) == ENTRIES and all(kv.shards.owned)
    assert pmap("rebalance").stdout == "every partition is where it belongs\n"
    for arguments, why in (
        (("move", "0-x", "--to", "0"), "numbers and ranges"),
        (("move", "0", "--to", "7"), "0 to 2"),
        (("move", "64", "--to", "0"), "there is no partition 64: there are 64"),
        (("address", "7", third.url), "0 to 2"),
        (("address", "1", third.url), "nothing was changed"),
        (("address", "1", "http://127.0.0.1:9"), "no answer from the host at 127.0.0.1:9: Connection refused"),
        (("give-up",), "no move is on its way"),
    ):
        assert why in pmap(*arguments, code=1).stderr
    version = int(pmap("show").stdout.split()[2])
    pmap("address", "1", second.url)
    assert f"shard map {version + 1} of owner" in pmap("show").stdout

    # Partitions of several stores in one command, as 'show --partitions' prints them; and back.
    owned_before = _owned(pmap)
    assert sorted(partition for owned in owned_before for partition in owned) == list(range(64)) and all(owned_before)
    assert "all of them are with store 0" in pmap("move", "0-63", "--to", "0").stdout
    assert _owned(pmap) == [list(range(64)), [], []]
    assert "300 entries, each where" in pmap("verify").stdout
    assert "all of them are with store 0" in pmap("move", "5", "--to", "0").stdout  # it is there
    with connect(folder) as kv:
        assert dict(kv) == ENTRIES
    refused = CliRunner().invoke(
        main,
        ["put", "k7", "x", "--url", third.url, "--state", str(folder / "one")],
        env={"PMAP_CONSTRAINT": "SEC:INSECURE"},
    )
    assert refused.exit_code == 1 and "client.sharded" in refused.stderr


def _owned(pmap: Pmap) -> list[list[int]]:
    """What 'show --partitions' says of each store."""
    found: list[list[int]] = []
    for line in pmap("show", "--partitions").stdout.splitlines():
        if line.startswith("     "):
            runs = [] if line.strip() == "none" else [part.split("-") for part in line.strip().split(",")]
            found.append([number for run in runs for number in range(int(run[0]), int(run[-1]) + 1)])
    return found


def test_what_makes_no_sense_is_said_in_a_sentence(
    servers: list[HostProcess], pmap: Pmap, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "found one with 'pmap shards create'" in pmap("show", code=1).stderr
    assert "found one with 'pmap shards create'" in pmap("rebalance", code=1).stderr
    (folder / "shards" / "shards.state").touch()
    assert "there is no key" in pmap("show", code=1).stderr
    (folder / "shards" / "owner.key").write_bytes(bytes(32))
    (folder / "shards" / "owner.key").chmod(0o644)
    assert "can be read by others" in pmap("show", code=1).stderr
    (folder / "shards" / "owner.key").unlink()
    (folder / "shards" / "shards.state").unlink()
    # The first test's stores have an owner already, and are left as they are.
    assert "belongs to a cluster already" in pmap("create", servers[0].url, code=1).stderr
    assert not (folder / "shards" / "shards.state").exists()
    monkeypatch.delenv("PMAP_CONSTRAINT", raising=False)
    bare = CliRunner().invoke(main, ["shards", "show", "--folder", str(folder / "other")], env={})
    assert bare.exit_code == 2 and "Say which enclaves you accept" in bare.stderr
