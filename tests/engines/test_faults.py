"""Engines that are killed, cut off or full: nothing acknowledged is lost, nothing executed twice, no alarm, no hang."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from engines.proxy import Network
from engines.storm import FAULTS, Target, storm
from killed_hosts import mounted_tmpfs
from shared_engines import EVERY_ENGINE, engine, need

from benchmarks.engine_servers import KINDS, MEMORY, Etcd
from host_store.store import Head, OutboxItem
from host_store.stores.log_store import LogStore
from host_store.stores.url import open_store
from wire.errors import StoreUnavailable

DISK_BYTES = {"postgresql": 400 << 20, "etcd": 700 << 20, "s3": 500 << 20}
CI_FAULTS = {"postgresql": 11, "etcd": 11, "s3": 8}


def leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def append(store: LogStore, n: int, content: bytes, **more: object) -> None:
    store.append(n, content, leaf(content), **{"trim": 0, **more})  # type: ignore[arg-type]


def opened(url: str) -> LogStore:
    store = open_store(url)
    assert isinstance(store, LogStore)
    return store


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_kills_and_cuts_loses_nothing_and_doubles_nothing(kind: str, tmp_path: Path) -> None:
    need(kind)
    # A killed SeaweedFS takes 13 s to come back: it is for the long run (make engines-storm).
    choices = tuple(fault for fault in FAULTS if kind != "s3" or fault != "engine")
    result = storm(tmp_path, kind, CI_FAULTS[kind], choices=choices)
    assert result.clean, result
    assert result.acknowledged >= CI_FAULTS[kind]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The engine that all tests share, behind a network of its own."""
    with ExitStack() as stack:
        yield Target(request.param, stack, engine(request.param))


@pytest.mark.parametrize("network", [Network.CUT, Network.DEAF] if EVERY_ENGINE else [Network.DEAF])
def test_an_append_whose_answer_is_lost_is_there_once(target: Target, network: Network, tmp_path: Path) -> None:
    url = target.url(tmp_path.name)
    with opened(url) as store:
        append(store, 1, b"one")
        target.set(network)
        mail = OutboxItem(2, 0, bytes(16), b"reply")
        with pytest.raises(StoreUnavailable):
            append(store, 2, b"two", outbox=[mail])
        target.set(Network.CUT)
        target.set(Network.FINE)
        append(store, 2, b"two", outbox=[mail])
        append(store, 3, b"three", trim=2)
        assert store.head() == Head(3, 2)
        assert store.outbox(bytes(16)) == [mail]
    with opened(url) as store:
        assert list(store.read(2, 4)) == [b"two", b"three"]
        assert store.outbox(bytes(16)) == [mail]


@pytest.mark.parametrize("network", [Network.SILENT, Network.DEAF] if EVERY_ENGINE else [Network.SILENT])
def test_a_new_epoch_goes_on_from_whatever_the_lost_append_has_become(
    target: Target, network: Network, tmp_path: Path
) -> None:
    with opened(target.url(tmp_path.name)) as store:
        append(store, 1, b"one")
        target.set(network)
        with pytest.raises(StoreUnavailable):
            append(store, 2, b"of the old epoch")
        target.set(Network.CUT)
        target.set(Network.FINE)
        n = store.head().n
        assert n == 2 if network is Network.DEAF else n in (1, 2)
        append(store, n + 1, b"of the new epoch")
        assert list(store.read(1, n + 2)) == [b"one", b"of the old epoch", b"of the new epoch"][-n - 1 :] or n == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", DISK_BYTES if EVERY_ENGINE else ["postgresql", "etcd"])
def test_a_full_disk_at_the_engine_loses_nothing_and_passes(kind: str) -> None:
    need(kind)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        scratch.chmod(0o755)
        disk = stack.enter_context(mounted_tmpfs(scratch / "disk", DISK_BYTES[kind]))
        server = KINDS[kind](disk)
        stack.callback(server.stop)
        url = server.url("full")
        url = f"{url}{'&' if '?' in url else '?'}timeout=3"
        with opened(url) as store:
            large = bytes(1 << 20)
            append(store, 1, b"before")
            filler = disk / "filler"
            with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(large)
                    file.flush()
            n = 1
            with pytest.raises(StoreUnavailable):
                while n < 400:
                    append(store, n + 1, b"%d" % n + large)
                    n += 1
            filler.unlink()
            _revive(server)
            append(store, n + 1, b"%d" % n + large)
            append(store, n + 2, b"after")
            assert store.head() == Head(n + 2, 1)
        with opened(url) as store:
            assert list(store.read(1, n + 3)) == [
                b"before", *[b"%d" % at + large for at in range(1, n + 1)], b"after",
            ]  # fmt: skip


def _revive(server: object) -> None:
    """Start again what the full disk has ended."""
    if isinstance(server, Etcd):
        for number, member in enumerate(server.members):
            if not member.running():
                server.start(number)
        server.wait()
    elif not server._server.running():  # type: ignore[attr-defined]
        server.start()  # type: ignore[attr-defined]
