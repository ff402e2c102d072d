"""Rows 87 to 91: no service, too much of it, and a clock that lies."""

from __future__ import annotations

import ast
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from attack_steps import Attack
from raw_client import RawClient

from client import Fate, MailFailed, MailTooLarge, Malformed, OutcomeUnknown
from host_store.adversary import MaliciousHost
from wire.codec import pack, unpack
from wire.crypto import seal_once
from wire.errors import Fault
from wire.limits import MAX_BODY_BYTES, MAX_ENVELOPE_BYTES, MIB
from wire.mail import EnvelopeKind
from wire.padding import pad

ROOT = Path(__file__).resolve().parents[2]


def test_row_87_service_refused(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    host.stop()
    with pytest.raises(OutcomeUnknown) as caught:
        alice.send(b"add x 1")
    assert caught.value.fault is Fault.NETWORK and alice.verdict is None
    attack.saw(f"T {type(caught.value).__name__}")
    host.start()
    assert [one.fate for one in alice.recover()] == [Fate.EXECUTED]
    assert alice.send(b"get x").payload == b"2"


def test_row_88_the_map_filled(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"put keep me")
    filled = 0
    with pytest.raises(MailFailed, match="MapFull") as caught:
        while True:
            alice.send(b"fill k%04d 4000" % filled)
            filled += 1
    assert filled > 4
    attack.saw(type(caught.value).__name__)
    for _ in range(2):
        assert alice.send(b"get keep").payload == b"me"
        with pytest.raises(MailFailed):
            alice.send(b"fill another 4000")
        alice.send(b"delete k0000 ")
        alice.send(b"fill k0000 4000")
        host.restart()


def test_row_89_oversize_and_deeply_nested(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    sent = len(host.archive.sent("alice"))
    attack.refused_by_client(host, lambda: alice.send(bytes(MAX_BODY_BYTES + 1)), MailTooLarge)
    assert len(host.archive.sent("alice")) == sent, "it never leaves"
    with pytest.raises(MailTooLarge):
        host.deliver(bytes(MAX_ENVELOPE_BYTES + 1))

    raw = RawClient()
    raw.hello(host.attestation(), host.deliver)
    header = bytes([1, EnvelopeKind.MAIL]) + raw.session
    fields = [0, "t", 0, b"", raw.highest.encode() if raw.highest else b"", 0]
    nested = [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x97" + b"\xc0" * 6 + b"\x90",
        pack([*fields, [[[[]]]] * 10]),
        pack(fields),
        pack([*fields, b"", b""]),
    ]
    tracemalloc.start()
    try:
        for content in nested:
            mail = header + seal_once(raw.secret, b"mail", pad(content), header, os.urandom)
            attack.rejected_by_enclave(host, lambda mail=mail: host.deliver(mail), Malformed)  # type: ignore[misc]
        for bomb in (b"\x90" * MIB, b"\xdc\xff\xff" + b"\x90" * 65_535, b"\x91" * MIB):
            with pytest.raises(Malformed):
                unpack(bomb, 2 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert alice.send(b"get x").payload == b"1"


def test_row_91_the_clock_set_back(host: MaliciousHost, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    for now in (0.0, -1.0, 4e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(time, "time_ns", lambda now=now: int(now * 1e9))
        host.restart()
        alice.send(b"add x 1")
        assert host.client(f"newcomer{now}").send(b"get x").payload is not None
    monkeypatch.undo()
    assert alice.send(b"get x").payload == b"4" and alice.verdict is None
    clocks = {"time", "datetime", "sched", "zoneinfo"}
    # Validity of certificates and constraints: the client's clock decides, and in a hand-over the enclave's, which is
    # the host's (pmap.handover says what that means). And the times of files. None is what freshness rests on.
    dated = {"wire/constraint.py", "wire/tee", "pmap/succession.py", "pmap/filesystem"}
    for package in ("wire", "pmap"):
        for path in (ROOT / package).rglob("*.py"):
            if any(path.is_relative_to(ROOT / one) for one in dated):
                continue
            names = {name for node in ast.walk(ast.parse(path.read_text())) for name in _imported(node)}
            assert not names & clocks, f"{path} knows the time"
    attack.saw("ok")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    return []
