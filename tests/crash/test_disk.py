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
from attack_steps import put_state, save_state, send_unheard
from attacked_enclaves import Ledger, Roomy
from killed_hosts import Account, Calls, Zygote, check_accounts, mounted_tmpfs, strace_or_skip

from client import EnclaveClient, HostUnavailable, InProcessTransport, OutcomeUnknown, StoreUnavailable
from host_store.adversary import MaliciousHost, Snapshot
from host_store.host import EnclaveHost
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.lmdb.store_folder import DATA_FILE
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
    data_file = host._medium.folder / DATA_FILE
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
from host_store.lmdb.lmdb_store import LmdbStore
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
        failing = strace_or_skip(f"{name}:error=EIO:when=6+13", paths=calls.paths_in(store))
        assert zygote.start(store, under=failing)
        sendings = 0
        while account.done < 12:
            sendings += 1
            assert sendings < 100, name
            account.work(zygote.url, 12 - account.done)
        zygote.kill()
        check_accounts(store, [account])


# --- power cuts ---------------------------------------------------------------------------------------------


SECTOR = 512  # bytes: what a disk writes as a whole


def power_cuts(before: bytes, after: bytes, unit: int, spared: int, rng: random.Random) -> Iterator[bytes]:
    """What a disk may hold of a file when the power goes during a commit: any part of it, but for the first bytes."""
    length = max(len(before), len(after))
    old, new = before.ljust(length, b"\x00"), after.ljust(length, b"\x00")
    changed = [at for at in range(spared, length, unit) if old[at : at + unit] != new[at : at + unit]]
    assert len(changed) > 2, "a commit writes several of them"
    for _ in range(8):
        written = set(rng.sample(changed, rng.randrange(len(changed))))  # not all of them
        yield b"".join((new if at in written else old)[at : at + unit] for at in range(0, length, unit))
    torn = bytearray(old)
    for at in changed:  # everyone cut in the middle
        torn[at : at + unit // 2] = new[at : at + unit // 2]
    yield bytes(torn)


@pytest.mark.parametrize("large", [False, True], ids=["in the journal", "too large for it: in LMDB"])
def test_a_power_cut_during_a_commit_leaves_the_state_before_it(
    malicious_host: Callable[..., MaliciousHost], large: bool
) -> None:
    """And the mail is executed once, be it before the power cut or when its client asks what became of it."""
    host = malicious_host(Roomy if large else Ledger)
    mail, look, seen = (b"fill x 90000", b"length x", b"90000") if large else (b"add x 1", b"get x", b"3")
    with host.client("alice") as alice:
        for _ in range(2):
            alice.send(b"fill x 5" if large else b"add x 1")
        before = host.snapshot()
        with host.dropping("reply"):
            send_unheard(alice, mail)
    after, known = host.snapshot(), save_state(host, "alice")
    assert before.journal is not None and after.journal is not None
    if large:  # LMDB writes the meta pages, the first two, after the sync of all others
        cuts = power_cuts(before.data, after.data, PAGE, 2 * PAGE, random.Random(1))
        images = [Snapshot(image, before.n, before.journal) for image in cuts]
    else:
        assert before.data == after.data
        cuts = power_cuts(before.journal, after.journal, SECTOR, PAGE, random.Random(1))
        images = [Snapshot(before.data, before.n, image) for image in cuts]
    for image in [*images, after]:
        host.restore(image)
        assert host.commits == image.n
        put_state(host, "alice", known)
        with host.client("alice") as alice:
            alice.recover()
            assert alice.send(look).payload == seen
            assert alice.verdict is None
