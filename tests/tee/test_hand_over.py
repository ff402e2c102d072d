"""A store moves from one running enclave to another: both as processes, with their hosts, from the command line."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_engines import EVERY_ENGINE, engine
from tee_machines import Server, machine, pmap

from benchmarks.engine_servers import KINDS
from client.kv import KeyValueClient
from host_store.enclave_process import EnclaveProcess, enclave_command
from host_store.stores.url import StoreUrl
from host_store.take_over import _OldHost, take_over
from pmap.tee.simulated import named_signer
from wire.errors import HostUnavailable
from wire.tee.choice import TeeChoice
from wire.tee.endorsements import NO_ENDORSEMENTS

SIGNER = named_signer("the bank").hex()
OLD = f"""
from pmap.kv import KeyValueEnclave

class Bank(KeyValueEnclave):
    seal_to = "code"
    successors = "S:{SIGNER} PROD:1 REVOKE:2 SEC:INSECURE"
"""
NEW = f"""
from pmap.kv import KeyValueEnclave

class Bank(KeyValueEnclave):
    seal_to = "code"
    security_version = 2
    predecessors = "S:{SIGNER} PROD:1 SEC:INSECURE"
"""
ON_OLD_MACHINE = ["--simulated-key", "old.key", "--simulated-signer", "the bank"]
ON_NEW_MACHINE = ["--simulated-key", "new.key", "--simulated-signer", "the bank"]
SERVE_OLD = ["old_bank:Bank", "--store", "old", *ON_OLD_MACHINE]
SERVE_NEW = ["new_bank:Bank", "--store", "new", *ON_NEW_MACHINE]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old_bank.py").write_text(OLD)
    (tmp_path / "new_bank.py").write_text(NEW)
    return tmp_path


def client_of(server: Server, state: Path) -> KeyValueClient:
    return KeyValueClient.connect(server.url, constraint=f"S:{SIGNER} SEC:INSECURE", state=state)


def hand_over_url(server: Server) -> str:
    return server.said.split("finds this store at ")[1].split("\n")[0]


def test_a_store_moves_to_new_code_on_another_machine_and_its_clients_go_on(
    folder: Path, start: Callable[..., Server]
) -> None:
    old = start(*SERVE_OLD, "--hand-over", "127.0.0.1:0")
    url, state = hand_over_url(old), folder / "alice.state"
    with client_of(old, state) as alice:
        alice["balance"] = b"100"
    shutil.copytree(folder / "old", folder / "copied too early")

    stranger = ["--simulated-key", "new.key", "--simulated-signer", "somebody else"]
    said = pmap(folder, "take-over", "new_bank:Bank", "--from", url, "--store", "new", *stranger, code=1)
    assert "signed by somebody whom the constraint does not name" in said
    said = pmap(folder, "take-over", "old_bank:Bank", "--from", url, "--store", "new", *ON_NEW_MACHINE, code=1)
    assert "takes no store over" in said
    assert not (folder / "new").exists()
    with client_of(old, state) as alice:  # the refused ones disturbed nobody
        alice["balance"] = b"90"

    said = pmap(folder, "take-over", "new_bank:Bank", "--from", url, "--store", "new", *ON_NEW_MACHINE)
    assert "was taken over at commit" in said
    assert old.wait() == 0 and "handed over" in old.log.read_text()

    new = start(*SERVE_NEW)
    with client_of(new, state) as alice:
        assert alice["balance"] == b"90"
        alice["balance"] = b"80"
    new.stop()
    said = pmap(folder, "serve", *SERVE_OLD, "--listen", "127.0.0.1:0", code=1)
    assert "handed over to its successor" in said
    new = start(*SERVE_NEW, "--rotate-key")
    with client_of(new, state) as alice:
        assert alice["balance"] == b"80"


@pytest.mark.parametrize("kind", KINDS if EVERY_ENGINE else ["etcd"])
def test_a_store_that_both_hosts_reach_stays_where_it_is(kind: str, folder: Path, start: Callable[..., Server]) -> None:
    shared = engine(kind).url(folder.name)
    old = start("old_bank:Bank", "--store", shared, *ON_OLD_MACHINE, "--hand-over", "127.0.0.1:0")
    url, state = hand_over_url(old), folder / "alice.state"
    with client_of(old, state) as alice:
        alice["balance"] = b"100"
    said = pmap(folder, "take-over", "new_bank:Bank", "--from", url, "--store", shared, *ON_NEW_MACHINE)
    assert "was taken over at commit" in said
    assert old.wait() == 0 and "handed over" in old.log.read_text()
    new = start("new_bank:Bank", "--store", shared, *ON_NEW_MACHINE)
    with client_of(new, state) as alice:
        assert alice["balance"] == b"100"
    new.stop()
    said = pmap(folder, "serve", "old_bank:Bank", "--store", shared, *ON_OLD_MACHINE, "--listen", "127.0.0.1:0", code=1)
    assert "wrong key" in said


def test_a_store_whose_old_host_ends_too_early_is_taken_over_all_the_same(
    folder: Path, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = start(*SERVE_OLD, "--hand-over", "127.0.0.1:0")
    state = folder / "alice.state"
    with client_of(old, state) as alice:
        alice["balance"] = b"100"
    post = _OldHost.post

    def end_before_done(host: _OldHost, path: str, body: bytes) -> bytes:
        if path == "/done":
            old.process.kill()
            old.wait()
        return post(host, path, body)

    monkeypatch.setattr(_OldHost, "post", end_before_done)
    machine = TeeChoice(simulated_key=folder / "new.key", simulated_signer="the bank")
    command = enclave_command("new_bank:Bank", machine)
    with pytest.raises(HostUnavailable) as caught:
        take_over(
            hand_over_url(old),
            lambda: EnclaveProcess(command, lambda: None, import_from=folder),
            StoreUrl.parse(str(folder / "new")),
            NO_ENDORSEMENTS.encode(),
            lambda more, length: None,
        )
    assert "was taken over" in caught.value.__notes__[0]
    new = start(*SERVE_NEW)
    with client_of(new, state) as alice:
        assert alice["balance"] == b"100"


def test_an_impossible_length_is_refused_and_disturbs_no_hand_over(folder: Path, start: Callable[..., Server]) -> None:
    old = start(*SERVE_OLD, "--hand-over", "127.0.0.1:0")
    port = int(hand_over_url(old).rpartition(":")[2])
    for length in ("9" * 5000, "-1", "", "0x10"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(f"POST /request HTTP/1.0\r\nContent-Length: {length}\r\n\r\n".encode())
            assert connection.recv(4096).split()[1] == b"413"


def test_a_store_that_is_not_in_the_state_of_the_hand_over_is_refused_and_the_old_one_may_go_on(
    folder: Path, start: Callable[..., Server]
) -> None:
    old = start(*SERVE_OLD, "--hand-over", "127.0.0.1:0")
    state = folder / "alice.state"
    with client_of(old, state) as alice:
        alice["balance"] = b"100"
        # A copy of a store in use holds whole commits: the older of its two meta pages' state at worst.
        shutil.copytree(folder / "old", folder / "new")
        alice["balance"] = b"90"
    said = pmap(
        folder, "take-over", "new_bank:Bank", "--from", hand_over_url(old), "--store", "new", *ON_NEW_MACHINE, code=3
    )
    assert "rollback detected" in said and "its records end at" in said
    old.process.kill()  # it waits for a successor that is content
    old = start(*SERVE_OLD)
    with client_of(old, state) as alice:
        assert alice["balance"] == b"90"


def test_a_store_moves_from_one_kind_of_hardware_to_another(folder: Path, start: Callable[..., Server]) -> None:
    bank = """
from pathlib import Path
from pmap.kv import KeyValueEnclave

class Bank(KeyValueEnclave):
    seal_to = "code"
    vendor_roots = Path({amd!r}).read_text() + Path({intel!r}).read_text()
    successors = predecessors = "C:{code} C:{td} SEC:STALE"
"""
    with machine("snp", folder / "amd") as amd, machine("tdx", folder / "intel") as intel:
        from tee_vectors import TDX

        from wire.tee.verify import show_evidence

        td = show_evidence("tdx", TDX.evidence).measurement.hex()
        roots = [str(one.endorsements / "root.pem") for one in (amd, intel)]
        (folder / "moving.py").write_text(bank.format(amd=roots[0], intel=roots[1], code="22" * 48, td=td))
        (folder / "provisioned.key").write_bytes(bytes(range(32)))
        old = start("moving:Bank", "--store", "old", *amd.arguments(), "--hand-over", "127.0.0.1:0")
        state, constraint = folder / "alice.state", f"C:{'22' * 48} C:{td}"
        with KeyValueClient.connect(
            old.url, constraint=constraint, state=state, endorsements=amd.endorsements
        ) as alice:
            alice["balance"] = b"100"
        on_intel = [*intel.arguments(), "--key-source", f"file:{folder}/provisioned.key"]
        taking = ["take-over", "moving:Bank", "--from", hand_over_url(old), "--store", "new", *on_intel]
        assert "collateral, which was not given" in pmap(folder, *taking, code=1)
        assert "was taken over" in pmap(folder, *taking, "--endorsements", intel.endorsements)
        new = start("moving:Bank", "--store", "new", *on_intel)
        with KeyValueClient.connect(
            new.url, constraint=constraint, state=state, endorsements=intel.endorsements
        ) as alice:
            assert alice["balance"] == b"100"
