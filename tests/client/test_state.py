"""The client's state: its encoding, and the file that keeps it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import CorruptedStore, InboxMail, InvalidInput, LimitExceeded, StoreLocked, StoreUnavailable, WrongKey
from client.state import ClientState, Pending, Pin, SessionKeys, StickyVerdict, Stream
from client.state_file import StateFile
from wire.alarm import Verdict, sign_alarm
from wire.checkpoint import Checkpoint, encode_evidence, sign_checkpoint
from wire.codec import pack, unpack
from wire.crypto import SigningKey, system_randomness
from wire.errors import ForkDetected, FreshnessError, RollbackDetected, UnsupportedVersion
from wire.mail import MAX_COUNTER, Request, RequestKind, seal_request

STORE_ID = bytes(range(16))
SIGNER = SigningKey(bytes(32))
KEY = bytes(range(32))

counters = st.integers(0, MAX_COUNTER)
topics = st.text("abcXYZ019-_.", min_size=1, max_size=12)
keys = st.builds(
    SessionKeys,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)


def checkpoint(size: int) -> Checkpoint:
    return sign_checkpoint(SIGNER, STORE_ID, size, size.to_bytes(8, "big") * 4)


checkpoints = st.none() | st.builds(checkpoint, st.integers(0, 1000))


@st.composite
def streams(draw: st.DrawFn, topic: str) -> Stream:
    sequence, evidence = draw(counters), draw(checkpoints)
    pending = None
    if draw(st.booleans()):
        session = draw(keys)
        kind = draw(st.sampled_from([RequestKind.MAIL, RequestKind.HEARTBEAT]))
        shown = encode_evidence(evidence), encode_evidence(draw(checkpoints))
        request = Request(kind, topic, sequence, *shown, draw(counters), draw(st.binary()))
        envelope = seal_request(request, session.id, session.secret, system_randomness)
        pending = Pending(request, envelope, session)
    elif sequence == 0 and evidence is None:
        sequence = 1  # else there is nothing to remember
    return Stream(sequence, evidence, pending)


@st.composite
def states(draw: st.DrawFn) -> ClientState:
    state = ClientState(draw(st.binary(min_size=32, max_size=32)), draw(counters))
    state.inbox_next, state.inbox_announced = draw(counters), draw(counters)
    state.inbox = draw(st.lists(st.builds(InboxMail, counters, st.binary()), max_size=3))
    if draw(st.booleans()):
        state.pin = Pin(STORE_ID, SIGNER.public, draw(st.binary(min_size=32, max_size=32)), draw(st.booleans()))
        state.session = draw(st.none() | keys)
        state.highest = draw(checkpoints)
        state.streams = {topic: draw(streams(topic)) for topic in draw(st.lists(topics, unique=True, max_size=3))}
        alarm = sign_alarm(SIGNER, Verdict.ROLLBACK, checkpoint(5), checkpoint(9), bytes(32))
        state.verdict = draw(
            st.none()
            | st.just(StickyVerdict(Verdict.ROLLBACK, "rolled back", alarm, None))
            | st.builds(StickyVerdict, st.just(Verdict.FORK), st.text(max_size=20), st.none(), checkpoints)
        )
    return state


@given(states())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_every_state_survives_its_encoding(state: ClientState) -> None:
    encoded = state.encode()
    assert ClientState.decode(encoded) == state
    assert ClientState.decode(encoded).encode() == encoded


def full_state() -> ClientState:
    session = SessionKeys(bytes(16), bytes(32), bytes(32))
    request = Request(RequestKind.MAIL, "t", 4, checkpoint(3).encode(), checkpoint(5).encode(), 1, b"body")
    pending = Pending(request, seal_request(request, session.id, session.secret, system_randomness), session)
    return ClientState(
        bytes(32),
        3,
        Pin(STORE_ID, SIGNER.public, bytes(32), True),
        session,
        {"t": Stream(4, checkpoint(3), pending)},
        checkpoint(5),
        1,
        2,
        [InboxMail(0, b"mail")],
        StickyVerdict(Verdict.FORK, "fork", None, checkpoint(5)),
    )


ALARM = sign_alarm(SIGNER, Verdict.ROLLBACK, checkpoint(5), checkpoint(9), bytes(32))
PIN = Pin(STORE_ID, SIGNER.public, b"r" * 32, False)


def test_every_field_of_a_state_comes_back() -> None:
    session = SessionKeys(b"i" * 16, b"s" * 32, b"e" * 32)
    request = Request(RequestKind.HEARTBEAT, "t", 4, checkpoint(3).encode(), checkpoint(5).encode(), 1, b"")
    pending = Pending(request, seal_request(request, session.id, session.secret, system_randomness), session)
    largest = ClientState(b"k" * 32, MAX_COUNTER, inbox_next=MAX_COUNTER, inbox_announced=MAX_COUNTER)
    for state in (
        ClientState(b"k" * 32),
        largest,
        ClientState(b"k" * 32, inbox=[InboxMail(0, b"one"), InboxMail(1, b"")]),
        ClientState(b"k" * 32, pin=PIN),
        full_state(),
        ClientState(b"k" * 32, 0, PIN, session, {"t": Stream(4, None, pending)}),
        ClientState(b"k" * 32, 0, PIN, None, {"b": Stream(1), "a": Stream(MAX_COUNTER, checkpoint(3))}, checkpoint(5)),
        ClientState(b"k" * 32, 0, PIN, None, {"t": Stream(0, checkpoint(3))}),
        ClientState(b"k" * 32, 0, PIN, verdict=StickyVerdict(Verdict.ROLLBACK, "why", ALARM, None)),
        ClientState(b"k" * 32, 0, PIN, verdict=StickyVerdict(Verdict.FORK, "why", None, checkpoint(7))),
    ):
        assert ClientState.decode(state.encode()) == state


def test_the_encoding_is_that_of_the_fields_in_order() -> None:
    state = ClientState(b"k" * 32, 3, PIN, SessionKeys(b"i" * 16, b"s" * 32, b"e" * 32))
    state.streams = {"b": Stream(1), "unused": Stream(), "a": Stream(2, checkpoint(3))}
    state.highest, state.inbox_next, state.inbox_announced = checkpoint(5), 6, 7
    state.inbox = [InboxMail(8, b"mail")]
    state.verdict = StickyVerdict(Verdict.ROLLBACK, "why", ALARM, checkpoint(9))
    assert unpack(state.encode(), 1 << 20, max_arrays=1000) == [
        b"k" * 32,
        3,
        [STORE_ID, SIGNER.public, b"r" * 32, False],
        [b"i" * 16, b"s" * 32, b"e" * 32],
        [["a", 2, checkpoint(3).encode(), None], ["b", 1, None, None]],
        checkpoint(5).encode(),
        6,
        7,
        [[8, b"mail"]],
        [1, "why", ALARM.encode(), checkpoint(9).encode()],
    ]


def test_a_new_client_has_drawn_its_key_and_knows_nothing() -> None:
    assert ClientState.new(lambda length: b"k" * length) == ClientState(b"k" * 32)


@pytest.mark.parametrize(
    "remembered",
    [
        {"session": SessionKeys(bytes(16), bytes(32), bytes(32))},
        {"streams": {"t": Stream(1)}},
        {"highest": checkpoint(5)},
        {"verdict": StickyVerdict(Verdict.FORK, "why", None, None)},
    ],
)
def test_evidence_without_the_store_that_it_is_about_is_corrupted(remembered: dict[str, Any]) -> None:
    ClientState.decode(ClientState(bytes(32), pin=PIN, **remembered).encode())
    with pytest.raises(CorruptedStore):
        ClientState.decode(ClientState(bytes(32), **remembered).encode())


@pytest.mark.parametrize("alarm", ["text", 5, True, b"", ALARM.encode()[:-1], b"\x03" + ALARM.encode()[1:]])
def test_a_verdict_with_what_is_no_alarm_is_corrupted(alarm: object) -> None:
    fields = unpack(full_state().encode(), 1 << 20, max_arrays=1000)
    fields[9][2] = alarm
    with pytest.raises(CorruptedStore):
        ClientState.decode(pack(fields))


@pytest.mark.parametrize(("verdict", "error"), [(Verdict.ROLLBACK, RollbackDetected), (Verdict.FORK, ForkDetected)])
def test_a_verdict_is_raised_with_its_text_and_proof(verdict: Verdict, error: type[FreshnessError]) -> None:
    raised = StickyVerdict(verdict, "why", ALARM, checkpoint(7)).error()
    assert type(raised) is error and str(raised) == "why"
    assert (raised.alarm, raised.checkpoint) == (ALARM, checkpoint(7))


def test_a_topic_with_nothing_to_remember_is_not_written() -> None:
    state = full_state()
    state.stream("unused")
    assert "unused" not in ClientState.decode(state.encode()).streams


@pytest.mark.parametrize("at", range(10))
def test_an_authentic_state_that_makes_no_sense_is_corrupted(at: int) -> None:
    may_be_missing = {3: None, 5: None, 9: None, 4: [], 8: []}
    for wrong in (b"", "text", -1, MAX_COUNTER + 1, [], [[]], [1, 2, 3, 4], True, None, b"x" * 33):
        if at in may_be_missing and may_be_missing[at] == wrong:
            continue
        fields = unpack(full_state().encode(), 1 << 20, max_arrays=1000)
        fields[at] = wrong
        with pytest.raises(CorruptedStore):
            ClientState.decode(pack(fields))


def test_a_pending_mail_in_another_place_is_corrupted() -> None:
    state = full_state()
    state.streams["t"].sequence = 5
    with pytest.raises(CorruptedStore):
        ClientState.decode(state.encode())


def test_secrets_are_not_in_what_is_printed() -> None:
    state = full_state()
    state.seed = b"secret seed".ljust(32)
    assert state.session is not None
    printed = repr(state) + repr(SessionKeys(b"", b"secret of the session", b""))
    assert "secret" not in printed.replace("secrets", "")


# --- the file -------------------------------------------------------------------------------------------------


def test_the_first_use_makes_a_key_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "alice.state"
    with StateFile.open(path) as file:
        assert file.read() is None
        file.write(b"state", durable=True)
    with StateFile.open(path) as file:
        assert file.read() == b"state"
    for name in ("alice.state", "alice.state.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert len((tmp_path / "alice.state.key").read_bytes()) == 32


def test_a_given_key_leaves_no_key_file(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        file.write(b"state", durable=True)
    assert not (tmp_path / "s.key").exists()
    with StateFile.open(tmp_path / "s", KEY) as file:
        assert file.read() == b"state"


def test_what_was_received_counts_until_it_is_torn_or_outdated(tmp_path: Path) -> None:
    path, received = tmp_path / "s", tmp_path / "s.received"
    with StateFile.open(path, KEY) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    with StateFile.open(path, KEY) as file:
        assert file.read() == b"received"
    whole = received.read_bytes()
    for torn in (b"", whole[:5], whole[:-1], bytes(len(whole)), whole[:20] + bytes(len(whole) - 20)):
        received.write_bytes(torn)
        with StateFile.open(path, KEY) as file:
            assert file.read() == b"sent"
    received.write_bytes(whole)
    with StateFile.open(path, KEY) as file:
        file.read()
        file.write(b"sent again", durable=True)
    assert received.read_bytes() == whole
    with StateFile.open(path, KEY) as file:
        assert file.read() == b"sent again", "it belonged to the state before"


def test_a_removed_state_begins_anew_whatever_was_received(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with StateFile.open(path) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    path.unlink()
    with StateFile.open(path) as file:
        assert file.read() is None
        assert not (tmp_path / "s.received").exists()


def test_every_altered_or_missing_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with StateFile.open(path, KEY) as file:
        file.write(b"a state", durable=True)
    whole = path.read_bytes()

    def read() -> bytes | None:
        with StateFile.open(path, KEY) as file:
            return file.read()

    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises((CorruptedStore, WrongKey, UnsupportedVersion)) as found:
            read()
        expected = {3: UnsupportedVersion, **dict.fromkeys(range(4, 12), WrongKey)}.get(position, CorruptedStore)
        assert type(found.value) is expected
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptedStore):
            read()


def test_another_key_is_called_that(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        file.write(b"state", durable=True)
    with StateFile.open(tmp_path / "s", bytes(32)) as file, pytest.raises(WrongKey):
        file.read()
    with pytest.raises(WrongKey, match="is missing"):
        StateFile.open(tmp_path / "s")


@pytest.mark.parametrize("key", [b"", b"short", bytes(33), "x" * 32])
def test_what_is_no_key_is_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(InvalidInput):
        StateFile.open(tmp_path / "s", key)


def test_a_key_file_that_others_can_read_or_of_another_length_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "s.key"
    StateFile.open(tmp_path / "s").close()
    key.chmod(0o640)
    with pytest.raises(InvalidInput, match="mode"):
        StateFile.open(tmp_path / "s")
    key.chmod(0o600)
    key.write_bytes(bytes(31))
    with pytest.raises(InvalidInput, match="no key"):
        StateFile.open(tmp_path / "s")


def test_a_state_is_used_by_one_client_at_a_time_under_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with StateFile.open(tmp_path / "s") as file:
        file.write(b"x", durable=True)
        for name in ("s", "link"):
            with pytest.raises(StoreLocked, match="in use"):
                StateFile.open(tmp_path / name)
    with StateFile.open(tmp_path / "link") as file:
        assert file.read() == b"x"
        file.write(b"y", durable=True)
    assert (tmp_path / "link").is_symlink()


def test_two_processes_cannot_use_one_state_and_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from client.state_file import StateFile\n"
        "file = StateFile.open(sys.argv[1]); file.write(b'theirs', durable=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked):
            StateFile.open(tmp_path / "s")
        process.kill()
    with StateFile.open(tmp_path / "s") as file:
        assert file.read() == b"theirs"


def test_a_forked_child_cannot_write_its_parents_state(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s") as file:
        file.write(b"parent", durable=True)
        child = os.fork()
        if child == 0:
            try:
                file.write(b"child", durable=True)
            except InvalidInput:
                os._exit(42)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert file.read() == b"parent"


def test_a_closed_file_is_not_written(tmp_path: Path) -> None:
    file = StateFile.open(tmp_path / "s")
    file.close()
    file.close()
    with pytest.raises(InvalidInput):
        file.write(b"x", durable=True)


@pytest.mark.parametrize("name", ["", ".", "missing/s", "a\0b"])
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        StateFile.open(name)


def test_a_state_that_grew_too_large_is_refused_and_the_last_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.state_file.MAX_STATE_BYTES", 100)
    with StateFile.open(tmp_path / "s") as file:
        file.write(bytes(100), durable=True)
        with pytest.raises(LimitExceeded):
            file.write(bytes(101), durable=True)
        assert file.read() == bytes(100)


def test_a_refusing_disk_is_reported_and_the_last_state_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with StateFile.open(tmp_path / "s") as file:
        file.write(b"one", durable=True)
        with monkeypatch.context() as patch:
            patch.setattr("client.state_file.os.fsync", fail)
            with pytest.raises(StoreUnavailable, match="No space left"):
                file.write(b"two", durable=True)
        assert file.read() == b"one"
        file.write(b"three", durable=True)
        assert file.read() == b"three"


def test_a_durable_write_syncs_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def noted_rename(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        rename(source, target)

    with StateFile.open(tmp_path / "s") as file:
        monkeypatch.setattr("client.state_file.os.fsync", noted_fsync)
        monkeypatch.setattr("client.state_file.os.rename", noted_rename)
        file.write(b"before a send", durable=True)
        assert calls == ["sync file", "rename to s", "sync folder"]
        calls.clear()
        file.write(b"after a receive", durable=False)
        assert calls == ["rename to s.received"], "and the only synced copy is never replaced by an unsynced one"
