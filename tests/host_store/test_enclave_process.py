"""The enclave as a real child process: it speaks, it refuses with one sentence, and it ends in every way there is."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import host_enclaves
import pytest
from host_enclaves import Echo, Ledger
from raw_client import RawClient

from host_store.enclave_process import EnclaveProcess, enclave_command
from host_store.in_process.channel import InProcessChannel
from wire.boundary import Answer, AnswerKind, Delivery, Incoming, IncomingKind
from wire.errors import (
    CorruptedStore,
    HostUnavailable,
    InvalidInput,
    Malformed,
    PmapError,
    ProofInvalid,
    UnsupportedVersion,
    WrongKey,
)
from wire.frames import encode_frame, read_effect
from wire.limits import COMMIT_BYTES
from wire.messages import Command, Deliver, End, Prepare, Prepared, Ready, Records, Refused, Start, Stop

HERE = Path(host_enclaves.__file__).parent


class Running:
    """A process with its first answer, and what it made."""

    def __init__(self, spec: str, key: Path | None, keyring: bytes | None = None, records: list[bytes] | None = None):
        self.ended = threading.Event()
        self.window = 1
        self.process = EnclaveProcess(enclave_command(spec, key), self.ended.set, import_from=HERE)
        self.records = list(records or [])
        try:
            self.ready = self.process.start(keyring, self.records)
        except BaseException:
            self.process.kill()
            self.process.close()
            raise
        if self.ready.genesis is not None:
            self._keep(self.ready.genesis)

    def _keep(self, delivery: Delivery) -> None:
        commit = delivery.commit
        if commit is not None:
            self.records.append(commit.record)
            self.window = commit.n - commit.tail + 1

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def answer(self, kind: IncomingKind, data: bytes) -> Answer:
        (delivery,) = self.process.deliver([Incoming(kind, data)])
        self._keep(delivery)
        (answer,) = delivery.answers
        if answer.kind is AnswerKind.BOXED:
            answer = answer._replace(data=delivery.outbox[answer.slot].message)
        return answer

    def deliver(self, envelope: bytes) -> bytes:
        data = self.answer(IncomingKind.MAIL, envelope).data
        assert data is not None
        return data

    def call(self, text: str) -> bytes | None:
        answer = self.answer(IncomingKind.CALL, text.encode())
        assert answer.kind is AnswerKind.CALL_DONE, answer
        return answer.data

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.close()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "test.key"


@pytest.fixture
def ledger(key: Path) -> Iterator[Running]:
    with Running("host_enclaves:Ledger", key) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """For tests that leave it as it was."""
    with Running("host_enclaves:Ledger", tmp_path_factory.mktemp("shared") / "test.key") as running:
        yield running


def test_a_new_store_is_founded_filled_and_started_again(ledger: Running, key: Path) -> None:
    assert ledger.ready.n == 1
    client = RawClient()
    client.hello(ledger.ready.attestation, ledger.deliver)
    assert client.mail(b"put a 1", ledger.deliver) == b"put"
    ledger.process.close()
    with Running(
        "host_enclaves:Ledger", key, ledger.ready.keyring, [ledger.records[-1], *ledger.records[-ledger.window :]]
    ) as again:
        assert again.ready == Ready(again.ready.attestation, len(ledger.records), None, None)
        assert again.call("get a") == b"1"


def test_the_key_file_is_made_for_its_owner_alone_and_named_insecure(
    key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Running("host_enclaves:Ledger", key).process.close()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert list(key.parent.iterdir()) == [key]
    assert "SIMULATED" in capfd.readouterr().err


def test_what_handlers_print_goes_to_standard_error_and_what_they_read_is_empty(
    key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Running("host_enclaves:Ledger", key) as ledger:
        assert ledger.call("print hello there") == b""
        assert ledger.call("count") == b"0"
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "hello there\nwritten to the descriptor\n" in captured.err


def test_an_enclave_without_state_gives_neither_records_nor_needs_a_key() -> None:
    with Running("host_enclaves:Echo", None) as running:
        assert (running.ready.n, running.ready.keyring, running.ready.genesis) == (0, None, None)
        client = RawClient()
        client.hello(running.ready.attestation, running.deliver)
        assert client.mail(b"hello", running.deliver) == b"hello"
        assert running.records == []


def test_a_large_batch_arrives_in_several_deliveries_in_order(shared: Running) -> None:
    batch = [b"put a " + b"x" * COMMIT_BYTES, b"put b 1", b"count"]
    deliveries = list(shared.process.deliver([Incoming(IncomingKind.CALL, data) for data in batch]))
    assert [answer.position for delivery in deliveries for answer in delivery.answers] == [0, 1, 2]
    assert [len(delivery.answers) for delivery in deliveries] == [1, 2]
    assert deliveries[1].number == deliveries[0].number + 1
    assert deliveries[-1].answers[-1].data == b"2"


def test_a_proof_that_proves_nothing_is_ignored_where_nobody_asked(shared: Running) -> None:
    shared.process.learn(1, bytes(32), 1, [])
    assert shared.call("get nothing") is None


# --- refusals at the start -------------------------------------------------------------------------------


def one_sentence(error: PmapError) -> str:
    text = str(error)
    assert "\n" not in text and "Traceback" not in text and 20 < len(text) < 500
    return text


BAD_SPECS = {
    "host_enclaves": "MODULE:CLASS",
    "host_enclaves:": "MODULE:CLASS",
    "../host_enclaves:Ledger": "MODULE:CLASS",
    "no_such_module:Ledger": "No module named 'no_such_module'",
    "host_enclaves:NoSuchClass": "no NoSuchClass in host_enclaves",
    "host_enclaves:NoEnclave": "no subclass of pmap.Enclave",
    "host_enclaves:os": "no subclass of pmap.Enclave",
    "host_enclaves:BadSettings": "not a size: 'a lot'",
    "host_enclaves:FailsToBegin": "RuntimeError: no luck",
}


@pytest.mark.parametrize(("spec", "words"), BAD_SPECS.items(), ids=BAD_SPECS.keys())
def test_an_enclave_that_cannot_be_is_refused_with_a_sentence(spec: str, words: str, key: Path) -> None:
    # In this process, where many cost little; that errors cross the frames is shown below.
    with pytest.raises(InvalidInput, match=words.replace(".", r"\.")) as caught:
        InProcessChannel(spec, key).start(None, [])
    one_sentence(caught.value)


def test_a_module_that_fails_is_refused_with_the_place_of_the_failure(key: Path, tmp_path: Path) -> None:
    module = tmp_path / "fails_on_import.py"
    module.write_text("print('on the way')\n\nraise ValueError('not today')\n")
    process = EnclaveProcess(enclave_command("fails_on_import:Ledger", key), lambda: None, import_from=tmp_path)
    with pytest.raises(InvalidInput, match=r"ValueError: not today \(.*fails_on_import\.py, line 3\)") as caught:
        process.start(None, [])
    one_sentence(caught.value)
    process.close()
    assert not key.exists(), "nothing was begun"


def test_every_refusal_of_a_stored_state_arrives_typed(ledger: Running, key: Path, tmp_path: Path) -> None:
    ledger.call("put a 1")
    ledger.call("put b 1")
    ledger.process.close()
    keyring, records = ledger.ready.keyring, ledger.records
    assert keyring is not None
    other_key = tmp_path / "other.key"
    other_key.write_bytes(bytes(32))
    altered = records[1][:200] + bytes([records[1][200] ^ 1]) + records[1][201:]
    cases: list[tuple[type[PmapError], Path, bytes, list[bytes]]] = [
        (WrongKey, other_key, keyring, records),
        (WrongKey, tmp_path / "missing.key", keyring, records),
        (CorruptedStore, key, keyring[:-1] + b"?", records),
        (CorruptedStore, key, keyring, [records[0], altered]),
        (CorruptedStore, key, keyring, [records[0], records[2]]),
        (CorruptedStore, key, keyring, []),
        (UnsupportedVersion, key, keyring, [records[0][:3] + b"\x63" + records[0][4:]]),
    ]
    for error, key_file, some_keyring, some_records in cases:
        with pytest.raises(error) as caught:
            Running("host_enclaves:Ledger", key_file, some_keyring, some_records)
        assert type(caught.value) is error
        one_sentence(caught.value)
    assert not (tmp_path / "missing.key").exists(), "no key was made that could not open the store"


def test_a_stateless_enclave_is_not_started_on_a_store(ledger: Running, key: Path) -> None:
    assert ledger.ready.keyring is not None
    with pytest.raises(InvalidInput, match="keeps none"):
        InProcessChannel(Echo, key).start(ledger.ready.keyring, ledger.records)


def test_an_enclave_with_state_needs_a_key_file() -> None:
    with pytest.raises(InvalidInput, match="key file"):
        InProcessChannel(Ledger, None).start(None, [])


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_a_key_file_of_another_length_is_refused(content: bytes, key: Path) -> None:
    key.write_bytes(content)
    with pytest.raises(InvalidInput, match="32 bytes"):
        InProcessChannel(Ledger, key).start(None, [])


def test_a_key_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        InProcessChannel(Ledger, tmp_path / "nowhere" / "test.key").start(None, [])
    with pytest.raises(InvalidInput, match="directory"):
        InProcessChannel(Ledger, tmp_path).start(None, [])


# --- ends ------------------------------------------------------------------------------------------------


def test_the_death_of_the_process_is_told_with_its_signal(ledger: Running) -> None:
    os.kill(ledger.pid, signal.SIGKILL)
    assert ledger.ended.wait(60)
    with pytest.raises(HostUnavailable, match="SIGKILL"):
        ledger.process.check()
    with pytest.raises(HostUnavailable, match="SIGKILL"):
        ledger.call("count")


def test_a_handler_that_ends_the_process_is_told_with_its_exit_code(ledger: Running) -> None:
    with pytest.raises(HostUnavailable, match="exit code 3"):
        ledger.call("exit 3")


def test_a_process_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match="cannot run"):
        EnclaveProcess([str(tmp_path / "no-such-program")], lambda: None)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("import sys; sys.exit(7)", HostUnavailable),
        ("import os; os.write(1, bytes([0, 0, 0, 1, 99, 0]))", Malformed),
        ("import os; os.write(1, bytes([0, 0, 0, 9, 17, 0]))", HostUnavailable),
        ("import os; os.write(1, bytes([0, 0, 0, 2, 19, 0x91, 0xc0])); input()", Malformed),
    ],
    ids=["silence", "unknown kind", "half a frame", "another answer"],
)
def test_a_program_that_speaks_otherwise_is_no_enclave(script: str, error: type[PmapError]) -> None:
    process = EnclaveProcess([sys.executable, "-S", "-c", script], lambda: None)
    with pytest.raises(error):
        process.start(None, [])
    process.kill()
    process.close()


class ByHand:
    """An enclave process without :class:`EnclaveProcess`, for a host that misbehaves."""

    def __init__(self, key: Path) -> None:
        self.process = subprocess.Popen(
            enclave_command("host_enclaves:Ledger", key),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(HERE)},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def say(self, *commands: Command) -> None:
        for command in commands:
            self.stdin.write(b"".join(encode_frame(command)))
        self.stdin.flush()

    def __enter__(self) -> ByHand:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()


@pytest.mark.parametrize(
    "commands",
    [
        [Stop()],
        [Records([])],
        [Start(None), Start(None)],
        [Start(None), End()],
        [Start(b"x" * 64), End()],
        [Prepare(None), Prepare(None)],
        [Start(None), Prepare(None)],
        [Prepare(b"x" * 64)],
    ],
    ids=[
        "stop",
        "records",
        "start twice",
        "end",
        "keyring that is none",
        "prepare twice",
        "prepare late",
        "no keyring",
    ],
)
def test_a_host_out_of_order_is_refused_and_the_process_ends_by_itself(commands: list[Command], key: Path) -> None:
    with ByHand(key) as by_hand:
        by_hand.say(*commands)
        effects = list(iter(lambda: read_effect(by_hand.stdout.read), None))
        assert isinstance(effects[-1], Refused)
        assert by_hand.process.wait(60) == 2


def test_a_prepared_process_starts_with_the_keyring_of_that_time(ledger: Running, key: Path) -> None:
    for old in (None, ledger.ready.keyring):
        process = EnclaveProcess(enclave_command("host_enclaves:Ledger", key), lambda: None, import_from=HERE)
        process.prepare(old)
        process.check()
        assert process.start(ledger.ready.keyring, [ledger.records[-1], *ledger.records]).n == 1
        process.close()


def test_a_prepared_process_that_is_not_needed_ends_in_order(key: Path) -> None:
    with ByHand(key) as by_hand:
        by_hand.say(Prepare(None), Stop())
        assert list(iter(lambda: read_effect(by_hand.stdout.read), None)) == [Prepared()]
        assert by_hand.process.wait(60) == 0
    assert not key.exists()


def test_frames_beyond_their_bound_end_the_process(key: Path) -> None:
    with ByHand(key) as by_hand:
        by_hand.stdin.write(b"\xff\xff\xff\xff\x01")
        by_hand.stdin.flush()
        refused = read_effect(by_hand.stdout.read)
        assert isinstance(refused, Refused) and refused.name == "Malformed"
        assert by_hand.process.wait(60) == 2


def test_the_end_of_the_stream_ends_the_process_quietly(key: Path) -> None:
    with ByHand(key) as by_hand:
        by_hand.say(Start(None))
        assert isinstance(read_effect(by_hand.stdout.read), Ready)
        by_hand.stdin.close()
        assert by_hand.process.wait(60) == 0


def test_the_death_of_the_host_ends_a_process_whose_handler_hangs(key: Path, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    with ByHand(key) as by_hand:
        by_hand.say(Start(None), Deliver([Incoming(IncomingKind.CALL, f"hang {reached}".encode())]))
        assert reached.read_text() == str(by_hand.process.pid)
        by_hand.stdin.close()
        assert by_hand.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_left_to_the_host(shared: Running, number: int) -> None:
    os.kill(shared.pid, number)
    assert shared.call("get nothing") is None


def test_started_by_hand_it_says_what_it_is_for() -> None:
    command = [sys.executable, "-m", "pmap", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "MODULE:CLASS" in shown and "--simulated-key" in shown


# --- in this process -------------------------------------------------------------------------------------


def test_an_in_process_enclave_that_breaks_down_or_was_stopped_says_so(key: Path) -> None:
    channel = InProcessChannel("host_enclaves:Ledger", key)
    with pytest.raises(HostUnavailable, match="stopped"):
        channel.check()
    channel.start(None, [])
    channel.check()
    broken: list[Incoming] = [None]  # type: ignore[list-item]
    with pytest.raises(HostUnavailable, match="broke down"):
        list(channel.deliver(broken))
    channel.close()
    with pytest.raises(HostUnavailable, match="stopped"):
        channel.learn(1, bytes(32), 1, [])
    assert issubclass(ProofInvalid, PmapError)
