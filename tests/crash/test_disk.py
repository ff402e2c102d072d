"""Disks that are full, read-only, small, broken or lying: what the host's clients notice of it."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attack_steps import put_state, save_state
from attacked_enclaves import Ledger, Roomy
from killed_hosts import Account, Calls, Zygote, check_accounts, mounted_tmpfs, strace_or_skip

from client import EnclaveClient, HostUnavailable, InProcessTransport, OutcomeUnknown, StoreUnavailable
from host_store.adversary import MaliciousHost, Snapshot
from host_store.host import EnclaveHost
from host_store.lmdb_store import LmdbStore
from host_store.store_folder import DATA_FILE
from wire.limits import KIB, MIB

PAGE = 4 * KIB


@contextmanager
def file_size_limited(soft_bytes: int) -> Iterator[None]:
    """No file may become longer; Python ignores the signal, so writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_may_not_grow_refuses_mails_and_the_host_recovers(
    malicious_host: Callable[..., MaliciousHost],
) -> None:
    host = malicious_host(Roomy)
    alice = host.client("alice")
    alice.send(b"fill before 100")
    data_file = host._folder / DATA_FILE
    filled = 0
    with file_size_limited(data_file.stat().st_size + 8 * PAGE):
        with pytest.raises((OutcomeUnknown, HostUnavailable)):
            while True:
                alice.send(b"fill k%d 5000" % filled)
                filled += 1
        assert alice.verdict is None
    host.restart()
    alice.recover()
    assert alice.send(b"length before").payload == b"100"
    for number in range(filled):
        assert alice.send(b"length k%d" % number).payload == b"5000"
    assert alice.verdict is None


def serve_from(folder: Path) -> EnclaveHost:
    return EnclaveHost.start(Roomy, folder / "store", in_process=True, simulated_key=folder.with_name("tee.key"))


def test_a_full_disk_refuses_mails_and_the_host_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "disk", 2 * MIB) as disk:
        host = serve_from(disk)
        alice = EnclaveClient.connect(
            InProcessTransport(host), constraint="SEC:INSECURE", state=tmp_path / "alice", retry_delays=()
        )
        filled = 0
        with pytest.raises((OutcomeUnknown, HostUnavailable)):
            while True:
                alice.send(b"fill k%d 10000" % filled)
                filled += 1
        assert filled > 10
        host.close()
        subprocess.run(["mount", "-o", f"remount,size={16 * MIB}", str(disk)], check=True)
        host = serve_from(disk)
        again = EnclaveClient.connect(InProcessTransport(host), constraint="SEC:INSECURE")
        assert again.send(b"count").payload in (str(filled).encode(), str(filled + 1).encode())
        again.close()
        alice._driver._transport = InProcessTransport(host)
        alice.recover()
        assert alice.verdict is None
        for number in range(filled):
            assert alice.send(b"length k%d" % number).payload == b"10000"
        alice.close()
        host.close()


OPEN = """
import sys
from host_store.lmdb_store import LmdbStore
from wire.errors import StoreUnavailable
try:
    LmdbStore.open(sys.argv[1])
except StoreUnavailable as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("exists", [False, True], ids=["new store", "copied store"])
def test_a_store_on_a_full_disk_is_refused_in_words(tmp_path: Path, exists: bool) -> None:
    with mounted_tmpfs(tmp_path / "disk", 1 * MIB) as disk:
        if exists:
            LmdbStore.open(disk / "store").close()
            (disk / "store/lock.mdb").unlink()
        else:
            (disk / "store").mkdir()
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(PAGE))
        command = [sys.executable, "-c", OPEN, str(disk / "store")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0 and result.stdout.startswith("refused:"), result
        (disk / "filler").unlink()
        LmdbStore.open(disk / "store").close()
        assert (disk / "store/lock.mdb").stat().st_size == 8 * KIB, "what is reserved is what LMDB maps"


def test_a_disk_that_becomes_read_only_is_told_and_harms_nothing(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "disk", 8 * MIB) as disk:
        host = serve_from(disk)
        alice = EnclaveClient.connect(InProcessTransport(host), constraint="SEC:INSECURE", state=tmp_path / "alice")
        alice.send(b"fill x 100")
        host.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreUnavailable):
            serve_from(disk)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with serve_from(disk) as host:
            alice._driver._transport = InProcessTransport(host)
            assert alice.send(b"length x").payload == b"100" and alice.verdict is None
            alice.close()


def test_a_store_that_outgrows_its_map_loses_nothing(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "store", initial_map_bytes=256 * KIB) as store:
        host = EnclaveHost.start(Roomy, store, in_process=True, simulated_key=tmp_path / "tee.key")
        with host, EnclaveClient.connect(InProcessTransport(host), constraint="SEC:INSECURE") as alice:
            for number in range(60):
                alice.send(b"fill k%d 10000" % number)
            assert store.stats().file_bytes > 256 * KIB
            host.restart()
            assert alice.send(b"count").payload == b"60" and alice.verdict is None


def test_a_disk_that_fails_now_and_then_loses_nothing(
    zygote: Zygote, lives: tuple[Calls, Calls], tmp_path: Path
) -> None:
    """The kernel answers some of the host's writes or syncs with an I/O error, whatever calls it uses for them."""
    calls = lives[1]
    names = [name for name in sorted(calls.counts) if "write" in name or "sync" in name]
    assert len(names) > 2
    for name in names:
        store, account = tmp_path / name / "store", Account("alice", tmp_path / name)
        store.parent.mkdir()
        assert zygote.start(store)
        assert account.work(zygote.url, 1)
        zygote.kill()
        failing = strace_or_skip(f"{name}:error=EIO:when=6+5", paths=calls.paths_in(store))
        assert zygote.start(store, under=failing)
        sendings = 0
        while account.done < 12:
            sendings += 1
            assert sendings < 100, name
            account.work(zygote.url, 12 - account.done)
        zygote.kill()
        check_accounts(store, [account])


# --- power cuts ---------------------------------------------------------------------------------------------


def power_cuts(before: bytes, after: bytes, rng: random.Random) -> Iterator[bytes]:
    """What a disk may hold when the power goes during a commit: any part of its pages, and not yet its meta page.

    (LMDB writes the meta page after the sync of all others.)
    """
    length = max(len(before), len(after))
    old, new = before.ljust(length, b"\x00"), after.ljust(length, b"\x00")
    changed = [at for at in range(2 * PAGE, length, PAGE) if old[at : at + PAGE] != new[at : at + PAGE]]
    assert len(changed) > 2, "a commit writes several pages"
    for _ in range(10):
        written = {at for at in changed if rng.random() < 0.5}
        yield b"".join((new if at in written else old)[at : at + PAGE] for at in range(0, length, PAGE))
    torn = bytearray(old)
    for at in changed:  # every page cut in the middle
        torn[at : at + PAGE // 2] = new[at : at + PAGE // 2]
    yield bytes(torn)


def test_a_power_cut_during_a_commit_leaves_the_state_before_it(
    malicious_host: Callable[..., MaliciousHost],
) -> None:
    host = malicious_host(Ledger)
    with host.client("alice") as alice:
        alice.send(b"add x 1")
        alice.send(b"put y " + b"v" * 9000)
    before, known = host.snapshot(), save_state(host, "alice")
    with host.client("alice") as alice:
        alice.heartbeat()
    after = host.snapshot()
    for image in power_cuts(before.data, after.data, random.Random(1)):
        host.restore(Snapshot(image, before.n))
        assert host.commits == before.n
        put_state(host, "alice", known)
        with host.client("alice") as alice:
            assert alice.send(b"get x").payload == b"1" and alice.verdict is None
