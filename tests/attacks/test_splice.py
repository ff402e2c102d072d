"""Rows 31 to 37: genuine pieces in places where they do not belong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from struct import Struct

from attack_steps import Attack, fill_window, load_refused
from attacked_enclaves import Ledger

from client import CorruptedStore, Fate, Malformed, OutcomeUnknown, WrongKey
from host_store.adversary import MaliciousHost
from wire.errors import TcbUnacceptable, Undecryptable
from wire.mail import session_of
from wire.record import HEADER_BYTES

PAGE = 4096  # bytes
MAIN_ROOT = Struct("=Q")
META_AT, ROOT_AT, TRANSACTION_AT, TREE_BYTES = 16, 16 + 24 + 48 + 40, 16 + 128, 48  # LMDB's MDB_meta and MDB_db


def test_row_31_one_clients_reply_to_another(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"get x")
    alice.send(b"put x alice")
    with host.answering(host.archive.answers("alice")[-1], client="bob"):
        error = attack.refused_by_client(host, lambda: bob.send(b"put x bob"), OutcomeUnknown)
    assert isinstance(error.__cause__, Malformed)
    assert [one.fate for one in bob.recover()] == [Fate.EXECUTED]


def test_row_32_one_clients_mail_as_anothers(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    alice.send(b"get x")
    bob.send(b"get x")
    alices, bobs = host.archive.sent("alice")[-1].data, host.archive.sent("bob")[-1].data
    forged = alices[:2] + session_of(bobs) + alices[18:]
    attack.rejected_by_enclave(host, lambda: host.deliver(forged), Undecryptable)
    assert bob.send(b"add x 1").payload == alice.send(b"get x").payload == b"1"


def test_row_33_a_record_of_another_store(
    host: MaliciousHost, attack: Attack, malicious_host: Callable[..., MaliciousHost]
) -> None:
    other = malicious_host(Ledger)
    for one in (host, other):
        one.client("alice").send(b"add x 1")
    assert host.commits == other.commits
    attack.refused_at_load(host, lambda: host.splice(host.commits, other.records[-1]), CorruptedStore)


def test_row_34_a_simulated_keyring_and_quote(
    host: MaliciousHost, attack: Attack, malicious_host: Callable[..., MaliciousHost]
) -> None:
    alice = host.client("alice")
    alice.send(b"get x")
    assert alice.identity is not None
    other = malicious_host(Ledger)
    attack.refused_at_load(host, lambda: host.replace_keyring(other.keyring), WrongKey)
    for constraint in (f"S:{alice.identity.signer.hex()}", f"C:{alice.identity.measurement.hex()} SEC:STALE"):
        attack.refused_by_client(
            other,
            lambda constraint=constraint: other.client("bob", constraint=constraint),  # type: ignore[misc]
            TcbUnacceptable,
        )


def test_row_35_the_bytes_of_two_records_exchanged(host: MaliciousHost, attack: Attack) -> None:
    fill_window(host, host.client("alice"))
    good, n = host.snapshot(), host.commits
    for a, b in ((n - 1, n), (n - 3, n - 1), (host.commits - len(host.records) + 1, n)):
        attack.refused_at_load(host, lambda a=a, b=b: host.swap_records(a, b), CorruptedStore)  # type: ignore[misc]
        host.restore(good)
    one, two = host.records[-2:]
    attack.refused_at_load(host, lambda: host.splice(n, two[:HEADER_BYTES] + one[HEADER_BYTES:]), CorruptedStore)
    # Two entries of one record stand in one ciphertext: exchanging them is altering it.
    host.restore(good)
    entry = slice(HEADER_BYTES + 200, HEADER_BYTES + 232), slice(HEADER_BYTES + 300, HEADER_BYTES + 332)
    exchanged = bytearray(two)
    exchanged[entry[0]], exchanged[entry[1]] = two[entry[1]], two[entry[0]]
    attack.refused_at_load(host, lambda: host.splice(n, bytes(exchanged)), CorruptedStore)


def test_row_36_the_newest_record_behind_old_ones(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    old = host.records
    alice.send(b"put x new")
    newest = host.records[-1]
    for window in ([*old[1:-1], newest], [*old[:-1], newest], [*old[:-2], newest], [newest]):
        attack.refused_at_load(host, lambda window=window: host.feed(window), CorruptedStore)  # type: ignore[misc]


def exchange_tables(data: bytes, one: bytes, other: bytes) -> bytes:
    """LMDB's data file with two named tables exchanged: their trees, as the newest main table describes them."""
    newest = max((0, 1), key=lambda page: MAIN_ROOT.unpack_from(data, page * PAGE + TRANSACTION_AT)[0])
    root = MAIN_ROOT.unpack_from(data, newest * PAGE + ROOT_AT)[0] * PAGE
    page, places = data[root : root + PAGE], []
    for name in (one, other):
        at = page.find(name + b"\x00" * 0, 16)
        assert at > 0 and page.count(name) == 1
        places.append(root + at + len(name))
    changed = bytearray(data)
    first, second = (slice(at, at + TREE_BYTES) for at in places)
    changed[first], changed[second] = data[second], data[first]
    return bytes(changed)


def test_row_37_tables_exchanged(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    good = host.snapshot()
    for other in (b"outbox", b"leaves", b"nodes", b"places"):
        attack.refused_at_load(
            host,
            lambda other=other: host.change_file(lambda data: exchange_tables(data, b"records", other)),  # type: ignore[misc]
            CorruptedStore,
        )
        host.restore(good)
    # An outbox that is none loses replies, which the host can do anyway, and nothing else.
    host.change_file(lambda data: exchange_tables(data, b"outbox", b"places"))
    with suppress(OutcomeUnknown):
        values = [int(alice.send(b"add x 1").payload or b"") for _ in range(3)]
        assert values == [values[0], values[0] + 1, values[0] + 2]
    assert alice.verdict is None
    # A host that feeds the enclave with what is not a record at all.
    host.restore(good)
    for strange in (host.archive.outbox[-1], host.archive.keyrings[0], b"", bytes(4080)):
        load_refused(host, lambda strange=strange: host.feed([strange]), CorruptedStore)  # type: ignore[misc]
