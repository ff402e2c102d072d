"""The host: nothing leaves before it is durable, nothing acknowledged is lost, and each failure has its error."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import host_enclaves
import pytest
from host_enclaves import Echo, Ledger
from raw_client import RawClient

from host_store.gathering import Gathering
from host_store.host import EnclaveHost
from host_store.in_process.channel import InProcessChannel
from host_store.intake import Intake, Item
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.outbox_memory import MemoryOutbox
from host_store.store import OutboxItem
from host_store.store_thread import StoreThread
from host_store.supervisor import Supervisor
from host_store.writer import APPEND_ATTEMPTS
from wire.boundary import Answer, AnswerKind, Delivery, Incoming, IncomingKind
from wire.errors import (
    ClientStale,
    CorruptedStore,
    EvidenceUnproven,
    HandlerFailed,
    HostUnavailable,
    InvalidInput,
    MailTooLarge,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    StoreFenced,
    StoreLocked,
    StoreMissing,
    StoreUnavailable,
    Undecryptable,
    WrongKey,
)
from wire.limits import MAX_BATCH_MAILS, MAX_ENVELOPE_BYTES
from wire.mail import Outcome, RequestKind
from wire.merkle import verify_consistency
from wire.messages import Ready

HERE = Path(host_enclaves.__file__).parent
SECONDS = 60.0
"""After so long a test has failed; none is meant to wait for it."""


class WatchedStore(LmdbStore):
    """A real store that the test can hold up, see through, and let fail."""

    @classmethod
    def at(cls, path: Path) -> Self:
        store = cls.open(path)
        assert isinstance(store, cls)
        return store

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.passes = threading.Event()
        self.passes.set()
        self.reached = threading.Event()
        self.attempts: list[tuple[int, bytes]] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.on_create: Callable[[], None] = lambda: None

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        self.on_create()
        super().create(keyring, record, leaf)

    def append(
        self,
        n: int,
        record: bytes,
        leaf: bytes,
        *,
        trim: int,
        outbox: Sequence[OutboxItem] = (),
        drops: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.attempts.append((n, record))
        self.reached.set()
        assert self.passes.wait(SECONDS)
        self.before()
        super().append(n, record, leaf, trim=trim, outbox=outbox, drops=drops)
        self.after()


class Failing:
    """Raises an error the first few times it is called."""

    def __init__(self, error: PmapError, times: int) -> None:
        self.error = error
        self.left = times

    def __call__(self, *_arguments: object) -> None:
        if self.left:
            self.left -= 1
            raise type(self.error)(*self.error.args)


def start(store: LmdbStore | Path, enclave: type = Ledger, *, in_process: bool = True) -> EnclaveHost:
    folder = store if isinstance(store, Path) else store._folder.path
    return EnclaveHost.start(enclave, store, in_process=in_process, simulated_key=folder.with_suffix(".key"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    with WatchedStore.at(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(params=["a fast store", "a slow store"])
def host(store: WatchedStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EnclaveHost]:
    slow = request.param == "a slow store"
    monkeypatch.setattr("host_store.supervisor.SLOW_STORE_SECONDS", -1.0 if slow else float("inf"))
    with start(store) as running:
        if slow:
            running.call(b"count").result(SECONDS)  # this append is found slow, and all others go aside
        yield running
        store.passes.set()


class User:
    """A raw client at a host."""

    def __init__(self, host: EnclaveHost) -> None:
        self.host = host
        self.client = RawClient()
        self.hello()

    def deliver(self, envelope: bytes) -> bytes:
        return self.host.deliver(envelope).result(SECONDS)

    def hello(self) -> None:
        self.client.hello(self.host.attestation(), self.deliver)

    def mail(self, text: str) -> bytes | None:
        return self.client.mail(text.encode(), self.deliver)

    def post(self, text: str) -> Future[bytes]:
        return self.host.deliver(self.client.seal(text.encode()))

    def accept(self, future: Future[bytes]) -> bytes | None:
        return self.client.accept(future.result(SECONDS)).payload


def call(host: EnclaveHost, text: str) -> bytes | None:
    return host.call(text.encode()).result(SECONDS)


# --- mail, and when its answer leaves -----------------------------------------------------------------------


def test_mail_is_executed_stored_and_answered(host: EnclaveHost, store: WatchedStore) -> None:
    user = User(host)
    assert user.mail("put a 1") == b"put"
    assert user.mail("get a") == b"1"
    status = host.status()
    assert (status.state, status.n, status.starts, status.persistent) == ("running", store.head().n, 1, True)
    assert user.client.highest is not None and user.client.highest.size == status.n


def test_no_answer_leaves_before_the_append_is_through(host: EnclaveHost, store: WatchedStore) -> None:
    user = User(host)
    head = store.head()
    store.passes.clear()
    store.reached.clear()
    answer = user.post("put a 1")
    # Behind it a mail whose answer needs no commit at all: it may not overtake.
    stranger = host.deliver(b"\x01\x02" + bytes(100))
    assert store.reached.wait(SECONDS)
    assert not answer.done() and not stranger.done()
    assert store.head() == head and host.poll(user.client.session) == []
    store.passes.set()
    assert user.accept(answer) == b"put"
    with pytest.raises(SessionUnknown):
        stranger.result(SECONDS)


def test_while_one_batch_is_stored_the_next_is_worked_on_and_the_rest_becomes_one_commit(
    host: EnclaveHost, store: WatchedStore
) -> None:
    users = [User(host) for _ in range(50)]
    before = host.status().n
    store.passes.clear()
    store.reached.clear()
    answers = [users[0].post("put 0 x")]
    assert store.reached.wait(SECONDS)
    answers += [user.post(f"put {number} x") for number, user in enumerate(users[1:], 1)]
    store.passes.set()
    assert [user.accept(answer) for user, answer in zip(users, answers, strict=True)] == [b"put"] * 50
    # The first mail alone, what the enclave took meanwhile, and all others together.
    assert host.status().n <= before + 3
    assert call(host, "count") == b"50"


def test_the_enclave_works_on_the_next_batch_while_the_last_one_is_stored(store: WatchedStore, tmp_path: Path) -> None:
    for name in ("first", "second"):
        os.mkfifo(tmp_path / name)
    with start(store, in_process=False) as host:
        users = [User(host), User(host)]
        answers = [users[0].post(f"tell {tmp_path / 'first'}")]
        while host.status().waiting:
            pass
        # The second mail waits before the first one comes back from the enclave.
        answers.append(users[1].post(f"tell {tmp_path / 'second'}"))
        store.passes.clear()
        store.reached.clear()
        assert (tmp_path / "first").read_text() == "here"
        assert store.reached.wait(SECONDS)
        assert (tmp_path / "second").read_text() == "here", "its handler runs"
        assert not any(answer.done() for answer in answers)
        store.passes.set()
        assert [user.accept(answer) for user, answer in zip(users, answers, strict=True)] == [b"told"] * 2


def test_what_came_from_the_enclave_is_stored_and_answered_though_it_ends_at_the_next_batch(
    store: WatchedStore, tmp_path: Path
) -> None:
    def late_mail(delivery: Delivery) -> Delivery:
        answers.append(other.post("put b 1"))
        ending.append(HostUnavailable("the enclave process ended"))
        return delivery

    answers: list[Future[bytes]] = []
    alter: list[Alter] = []
    ending: list[PmapError] = []
    intake = Intake()
    supervisor = Supervisor(lambda _on_end: LyingChannel(tmp_path / "test.key", alter, ending), store, intake)
    supervisor.start()
    with EnclaveHost("ending", supervisor, intake, store, False) as host:
        user, other = User(host), User(host)
        alter.append(late_mail)
        assert user.accept(user.post("put a 1")) == b"put"
        with pytest.raises(HostUnavailable, match=r"outcome is unknown.*the enclave process ended"):
            answers[0].result(SECONDS)
        retried_until_a_new_epoch(host, 2)
        assert call(host, "keys") == b"a"


def test_a_batch_is_bounded(host: EnclaveHost, store: WatchedStore) -> None:
    store.passes.clear()
    store.reached.clear()
    first = host.call(b"put first x")
    assert store.reached.wait(SECONDS)
    calls = [host.call(b"count") for _ in range(2 * MAX_BATCH_MAILS + 1)]
    before = host.status().n
    store.passes.set()
    assert {future.result(SECONDS) for future in [first, *calls]} == {b"put", b"1"}
    assert host.status().n >= before + 3


def test_a_repeated_mail_gets_the_same_reply_from_the_outbox(host: EnclaveHost) -> None:
    user = User(host)
    envelope = user.client.seal(b"put a 1")
    first = user.deliver(envelope)
    assert user.deliver(envelope) == first
    # The copies of one batch too.
    second = user.client.accept(first) and user.client.seal(b"put a 2")
    copies = [host.deliver(second) for _ in range(5)]
    assert len({copy.result(SECONDS) for copy in copies}) == 1
    assert user.accept(copies[0]) == b"put"
    assert host.status().n == user.client.highest.size  # type: ignore[union-attr]


def test_a_reply_that_the_store_lost_is_withheld_not_made_up(host: EnclaveHost, store: WatchedStore) -> None:
    user = User(host)
    envelope = user.client.seal(b"put a 1")
    user.deliver(envelope)
    (item,) = store.outbox(user.client.session)
    n = store.head().n
    assert item.n == n
    store.outbox_item = lambda n, index: None  # type: ignore[method-assign]
    with pytest.raises(ReplyWithheld):
        user.deliver(envelope)


def test_mails_to_others_are_polled_and_dropped_once_acknowledged(host: EnclaveHost) -> None:
    alice, bob = User(host), User(host)
    alice.mail(f"send {bob.client.name} hello")
    (mail,) = [bob.client.open(envelope) for envelope in host.poll(bob.client.session)]
    assert (mail.outcome, mail.payload) == (Outcome.INBOX, b"hello")
    bob.client.inbox_ack = 1
    bob.mail("keys")
    assert [bob.client.open(envelope).outcome for envelope in host.poll(bob.client.session)] == [Outcome.EXECUTED]
    with pytest.raises(Malformed, match="16 bytes"):
        host.poll(b"short")


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (b"", Malformed),
        (b"\x01", Malformed),
        (b"\x02\x02" + bytes(100), Malformed),
        (b"\x01\x09" + bytes(100), Malformed),
        (b"\x01\x03" + bytes(100), Malformed),
        (b"\x01\x02" + bytes(100), SessionUnknown),
        (b"\x01\x01" + bytes(100), SessionUnknown),
    ],
)
def test_garbage_is_refused_typed(host: EnclaveHost, envelope: bytes, error: type[PmapError]) -> None:
    with pytest.raises(error) as caught:
        host.deliver(envelope).result(SECONDS)
    assert type(caught.value) is error


def test_an_altered_mail_is_undecryptable_and_not_executed(host: EnclaveHost) -> None:
    user = User(host)
    envelope = user.client.seal(b"put a 1")
    with pytest.raises(Undecryptable):
        user.deliver(envelope[:-1] + bytes([envelope[-1] ^ 1]))
    assert call(host, "count") == b"0"
    assert user.client.accept(user.deliver(envelope)).payload == b"put"


def test_a_mail_over_the_bound_is_refused_at_once(host: EnclaveHost) -> None:
    with pytest.raises(MailTooLarge):
        host.deliver(bytes(MAX_ENVELOPE_BYTES + 1))


# --- calls by the host --------------------------------------------------------------------------------------


def test_what_a_call_of_the_host_changes_persists(tmp_path: Path) -> None:
    with start(tmp_path / "store") as host:
        assert call(host, "put a 1") == b"put"
    with start(tmp_path / "store") as host:
        assert call(host, "get a") == b"1"
        assert call(host, "get b") is None


def test_a_call_that_fails_says_so_and_changes_nothing(host: EnclaveHost) -> None:
    with pytest.raises(HandlerFailed, match="not like this"):
        call(host, "reject not like this")
    assert call(host, "count") == b"0"


# --- restarts -----------------------------------------------------------------------------------------------


def test_a_reply_survives_the_host_and_is_polled_and_recovered_in_the_next_epoch(tmp_path: Path) -> None:
    with start(tmp_path / "store") as host:
        user = User(host)
        user.mail("put a 1")
        envelope = user.client.seal(b"put a 2")
        lost = user.deliver(envelope)
    with start(tmp_path / "store") as host:
        user.host = host
        with pytest.raises(SessionUnknown):
            user.deliver(envelope)
        assert lost in host.poll(user.client.session)
        user.hello()
        assert user.client.recover(user.deliver) is Outcome.RECOVERED
        assert user.mail("get a") == b"2"


def test_a_restart_is_a_new_epoch_of_the_same_store(host: EnclaveHost) -> None:
    user = User(host)
    user.mail("put a 1")
    before = host.status()
    document = host.attestation()
    host.restart()
    assert host.attestation() != document
    after = host.status()
    assert (after.n, after.starts) == (before.n, 2) and after.epoch != before.epoch
    with pytest.raises(SessionUnknown):
        user.mail("get a")
    user.hello()
    assert user.client.recover(user.deliver) is Outcome.FENCED
    assert user.mail("get a") == b"1"


def test_old_evidence_is_judged_with_the_proof_that_the_host_supplies(host: EnclaveHost, store: WatchedStore) -> None:
    user = User(host)
    user.mail("put a x")  # the evidence of its answer is in no entry any more, once the next mail was answered
    stale = user.client.highest
    for number in range(20):
        user.mail(f"put {number} x")
    host.restart()
    assert stale is not None and store.head().first > stale.size + 1, "the enclave has no root of that size any more"
    user.client.highest = stale
    n = host.status().n
    with pytest.raises(ClientStale):
        user.hello()
    assert host.status().n == n, "nothing was committed for it"
    # Without the leaf hashes there is no proof, and the verdict says that.
    host.restart()
    store.node = Failing(CorruptedStore("a leaf is missing"), 99)  # type: ignore[method-assign, assignment]
    with pytest.raises(EvidenceUnproven):
        user.hello()


def test_consistency_proofs_hold_and_impossible_ones_are_refused(host: EnclaveHost) -> None:
    user = User(host)
    checkpoints = [user.client.highest]
    for number in range(5):
        user.mail(f"put {number} x")
        checkpoints.append(user.client.highest)
    first, last = checkpoints[0], checkpoints[-1]
    assert first is not None and last is not None
    proof = host.consistency(first.size, last.size)
    verify_consistency(first.size, first.root, last.size, last.root, proof)
    for sizes in [(0, 1), (2, 1), (1, last.size + 1)]:
        with pytest.raises(InvalidInput):
            host.consistency(*sizes)


# --- the store fails ----------------------------------------------------------------------------------------


def test_a_store_that_is_unavailable_for_a_while_is_offered_the_same_bytes(
    host: EnclaveHost, store: WatchedStore
) -> None:
    user = User(host)
    store.attempts.clear()
    store.before = Failing(StoreUnavailable("the disk is full"), 2)
    assert user.mail("put a 1") == b"put"
    assert len(store.attempts) == 3 and len(set(store.attempts)) == 1
    assert host.status().starts == 1


def test_a_store_that_stays_unavailable_leaves_the_outcome_open_and_begins_a_new_epoch(
    host: EnclaveHost, store: WatchedStore
) -> None:
    user, other = User(host), User(host)
    store.before = Failing(StoreUnavailable("the disk is full"), APPEND_ATTEMPTS)
    store.passes.clear()
    store.reached.clear()
    first = user.post("put a 1")
    assert store.reached.wait(SECONDS)
    second = other.post("put b 1")
    store.passes.set()
    with pytest.raises(HostUnavailable, match=r"outcome is unknown.*the disk is full"):
        first.result(SECONDS)
    # Worked on meanwhile, or still waiting: its answer is a lie now, or never was one.
    with pytest.raises((HostUnavailable, SessionUnknown)):
        second.result(SECONDS)
    retried_until_a_new_epoch(host, 2)
    for one in (user, other):
        one.hello()
        assert one.client.recover(one.deliver) is Outcome.FENCED
        assert one.mail("keys") == b""
    assert user.mail("put a 1") == b"put"


def test_an_append_that_took_place_although_it_failed_is_recovered_as_executed(
    host: EnclaveHost, store: WatchedStore
) -> None:
    user = User(host)
    store.after = Failing(StoreUnavailable("the outcome is unknown"), APPEND_ATTEMPTS)
    answer = user.post("put a 1")
    with pytest.raises(HostUnavailable, match=r"outcome is unknown"):
        answer.result(SECONDS)
    retried_until_a_new_epoch(host, 2)
    user.hello()
    assert user.client.recover(user.deliver) is Outcome.RECOVERED
    assert user.mail("get a") == b"1"


def retried_until_a_new_epoch(host: EnclaveHost, starts: int) -> None:
    """Ask until the host has started the enclave so often."""
    while host.status().starts < starts or host.status().state != "running":
        try:
            call(host, "count")
        except HostUnavailable:
            continue


def test_a_host_whose_store_was_taken_over_stops_for_good(host: EnclaveHost, store: WatchedStore) -> None:
    user = User(host)
    store.before = Failing(StoreFenced("record 3 exists already"), 1)
    answer = user.post("put a 1")
    with pytest.raises(HostUnavailable, match="record 3 exists"):
        answer.result(SECONDS)
    host.close()
    assert isinstance(host.failure, StoreFenced)
    assert host.status().state == "failed"
    with pytest.raises(HostUnavailable):
        host.deliver(b"")
    with pytest.raises(StoreFenced):
        host.restart()


def test_a_store_found_corrupted_at_a_restart_ends_the_host_with_that_error(
    host: EnclaveHost, store: WatchedStore
) -> None:
    read = store.read

    def altered(start: int, stop: int) -> Iterator[bytes]:
        for record in read(start, stop):
            yield record[:-1] + bytes([record[-1] ^ 1])

    store.read = altered  # type: ignore[method-assign]
    with pytest.raises(CorruptedStore, match="altered"):
        host.restart()
    with pytest.raises(CorruptedStore):
        host.call(b"count")
    assert isinstance(host.failure, CorruptedStore)


def test_a_first_start_that_could_not_be_stored_leaves_nothing_behind(store: WatchedStore) -> None:
    store.on_create = Failing(StoreUnavailable("the disk is full"), 1)
    with pytest.raises(StoreUnavailable):
        start(store)
    assert store.keyring() is None and store.head().n == 0
    with start(store) as host:
        assert host.status().n == 1


# --- the enclave fails --------------------------------------------------------------------------------------


def test_an_enclave_killed_in_the_middle_of_a_mail_is_started_anew_and_the_mail_fenced(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    with start(tmp_path / "store", in_process=False) as host:
        user, bystander = User(host), User(host)
        assert user.mail("put a 1") == b"put"
        answer = user.post(f"hang {reached}")
        pid = int(reached.read_text())
        waiting = bystander.post("put b 1")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(HostUnavailable, match=r"outcome is unknown.*SIGKILL"):
            answer.result(SECONDS)
        # It was waiting for its turn, so its error is definite: nothing was done.
        with pytest.raises(SessionUnknown):
            waiting.result(SECONDS)
        assert host.status().starts == 2
        user.hello()
        assert user.client.recover(user.deliver) is Outcome.FENCED
        assert user.mail("get a") == b"1"


def test_an_enclave_that_dies_idle_is_started_anew_without_being_asked(tmp_path: Path) -> None:
    with start(tmp_path / "store", in_process=False) as host:
        user = User(host)
        pid = host.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while host.status().starts < 2:
            threading.Event().wait(0.001)
        with pytest.raises(SessionUnknown):
            user.mail("count")
        assert host.status().pid not in (None, pid)


def test_an_enclave_that_cannot_start_again_is_retried_while_everybody_is_told(tmp_path: Path) -> None:
    module = tmp_path / "flaky_enclave.py"
    good = f"import sys\nsys.path.insert(0, {str(HERE)!r})\nfrom host_enclaves import Ledger\n"
    module.write_text(good)
    with EnclaveHost.start("flaky_enclave:Ledger", tmp_path / "store", import_from=tmp_path) as host:
        assert call(host, "put a 1") == b"put"
        module.write_text("import os\nos._exit(9)\n")
        with pytest.raises(HostUnavailable, match="exit code 3"):
            call(host, "exit 3")
        with pytest.raises(HostUnavailable, match="exit code 9"):
            while True:
                call(host, "get a")
        with pytest.raises(HostUnavailable):
            host.attestation()
        module.write_text(good)
        retried_until_a_new_epoch(host, 2)
        assert call(host, "get a") == b"1"


def test_calls_are_taken_again_before_a_host_says_that_its_enclave_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path / "store", in_process=False) as host:
        seen: list[str] = []
        accept = host._intake.accept

        def watched() -> None:
            seen.append(host.status().state)
            accept()

        monkeypatch.setattr(host._intake, "accept", watched)
        with pytest.raises(HostUnavailable, match="exit code 3"):
            call(host, "exit 3")
        retried_until_a_new_epoch(host, 2)
    assert seen == ["restarting"]


Alter = Callable[[Delivery], Delivery | None]


class LyingChannel(InProcessChannel):
    """An enclave whose deliveries are altered, once, or that ends with an error."""

    def __init__(self, key: Path, alter: list[Alter], ending: list[PmapError] | None = None) -> None:
        super().__init__(Ledger, key)
        self.alter = alter
        self.ending = ending

    def deliver(self, batch: Sequence[Incoming]) -> Iterator[Delivery]:
        if self.ending:
            raise self.ending.pop()
        return self.altered(super().deliver(batch))

    def altered(self, deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        for delivery in deliveries:
            altered = self.alter.pop()(delivery) if self.alter else delivery
            if altered is not None:
                yield altered


def apart(call: Callable[[], Any]) -> Future[Any]:
    """What a call gives, or raises, that is made in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def until(condition: Callable[[], Any]) -> None:
    while not condition():
        threading.Event().wait(0.001)


def test_a_question_and_a_restart_that_come_together_are_both_answered(host: EnclaveHost, store: WatchedStore) -> None:
    supervisor = host._supervisor
    store.passes.clear()
    store.reached.clear()
    answer = host.call(b"count")
    assert store.reached.wait(SECONDS)
    asked = apart(lambda: supervisor.ask(lambda channel: channel.attest()))
    restarted = apart(host.restart)
    until(lambda: supervisor._questions and supervisor._wanted)
    store.passes.set()
    restarted.result(SECONDS)
    assert asked.result(SECONDS) == host.attestation()
    assert answer.result(SECONDS) == b"0"


class HeldChannel(LyingChannel):
    """An enclave that is held up at its start, and notes whether it was to rotate."""

    def __init__(self, key: Path, ending: list[PmapError], passes: threading.Event, starts: list[bool]) -> None:
        super().__init__(key, [], ending)
        self.passes = passes
        self.starts = starts

    def start(self, keyring: bytes | None, records: Iterable[bytes], *, rotate: bool = False) -> Ready:
        self.starts.append(rotate)
        assert self.passes.wait(SECONDS)
        return super().start(keyring, records, rotate=rotate)


def test_a_new_key_that_is_asked_for_while_the_enclave_is_being_started_is_made_before_the_answer(
    store: WatchedStore, tmp_path: Path
) -> None:
    ending: list[PmapError] = []
    starts: list[bool] = []
    passes = threading.Event()
    passes.set()
    intake = Intake()
    supervisor = Supervisor(lambda _on_end: HeldChannel(tmp_path / "test.key", ending, passes, starts), store, intake)
    supervisor.start()
    with EnclaveHost("held", supervisor, intake, store, False) as host:
        passes.clear()
        ending.append(HostUnavailable("the enclave process ended"))
        with pytest.raises(HostUnavailable):
            call(host, "count")
        until(lambda: len(starts) == 2)  # what is being started was not told to rotate
        before = store.keyring()
        restarted = apart(lambda: host.restart(rotate=True))
        until(lambda: supervisor._wanted)
        passes.set()
        restarted.result(SECONDS)
        assert starts == [False, False, True]
        assert store.keyring() != before
        host.restart()
        assert starts == [False, False, True, False]


def test_a_failure_of_the_store_is_told_also_where_a_restart_is_asked_for_meanwhile(
    host: EnclaveHost, store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.passes.clear()
    store.reached.clear()
    answer = host.call(b"count")
    assert store.reached.wait(SECONDS)
    restarted = apart(host.restart)
    until(lambda: host._supervisor._wanted)
    store.before = Failing(StoreUnavailable("the disk is full"), APPEND_ATTEMPTS)
    store.passes.set()
    restarted.result(SECONDS)
    with pytest.raises(HostUnavailable, match="the disk is full"):
        answer.result(SECONDS)
    assert "the enclave's incarnation ended: the disk is full" in caplog.text
    assert host.status().starts == 2


def test_a_question_that_breaks_down_is_answered_and_ends_the_host(host: EnclaveHost) -> None:
    def question(_channel: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(HostUnavailable, match="the host broke down: ZeroDivisionError"):
        host._supervisor.ask(question)
    until(lambda: host.failure is not None)
    with pytest.raises(HostUnavailable, match="broke down"):
        call(host, "count")


def test_a_batch_that_no_thread_can_store_is_answered_all_the_same(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("host_store.supervisor.SLOW_STORE_SECONDS", -1.0)
    monkeypatch.setattr(StoreThread, "put", no_thread)
    with start(store) as host:
        assert call(host, "count") == b"0"
        with pytest.raises(HostUnavailable, match=r"outcome is unknown.*new thread"):
            call(host, "count")
        until(lambda: host.failure is not None)
        assert "the host broke down" in str(host.failure)


def test_closing_kills_an_enclave_that_hangs(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    host = start(tmp_path / "store", in_process=False)
    answer = host.call(f"hang {reached}".encode())
    pid = int(reached.read_text())
    host.close(drain_seconds=0)
    with pytest.raises(HostUnavailable, match="SIGKILL"):
        answer.result(SECONDS)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    LmdbStore.open(tmp_path / "store").close()


LIES: dict[str, Alter] = {
    "no answer": lambda delivery: delivery._replace(answers=[]),
    "answered twice": lambda delivery: delivery._replace(answers=delivery.answers * 2),
    "answer to nobody": lambda delivery: delivery._replace(answers=[delivery.answers[0]._replace(position=1)]),
    "answer of a call": lambda delivery: delivery._replace(answers=[Answer(0, AnswerKind.CALL_DONE)]),
    "nothing to deliver": lambda delivery: delivery._replace(answers=[Answer(0, AnswerKind.DIRECT)]),
    "outbox without a commit": lambda delivery: delivery._replace(commit=None),
    "outbox of another commit": lambda delivery: delivery._replace(number=delivery.number + 1),
    "no delivery at all": lambda delivery: None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_an_enclave_that_breaks_the_protocol_is_replaced_and_nobody_waits_for_ever(
    store: WatchedStore, tmp_path: Path, lie: Alter
) -> None:
    alter: list[Alter] = []
    intake = Intake()
    supervisor = Supervisor(lambda _on_end: LyingChannel(tmp_path / "test.key", alter), store, intake)
    supervisor.start()
    with EnclaveHost("liar", supervisor, intake, store, False) as host:
        user = User(host)
        alter.append(lie)
        answer = user.post("put a 1")
        # Who was answered before the lie was seen has the right answer.
        with suppress(HostUnavailable):
            user.accept(answer)
        retried_until_a_new_epoch(host, 2)
        user.hello()
        assert user.client.send(b"keys", user.deliver, "another").outcome is Outcome.EXECUTED


# --- closing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_process", [True, False])
def test_a_host_closed_in_order_loses_nothing_that_it_took(tmp_path: Path, in_process: bool) -> None:
    host = start(tmp_path / "store", in_process=in_process)
    users = [User(host) for _ in range(20)]
    calls = [host.call(f"put call{number} x".encode()) for number in range(100)]
    mails = [user.post(f"put mail{number} x") for number, user in enumerate(users)]
    host.close()
    done, open_still = wait([*calls, *mails], timeout=0)
    assert not open_still and len(done) == 120
    assert [user.accept(mail) for user, mail in zip(users, mails, strict=True)] == [b"put"] * 20
    with pytest.raises(HostUnavailable):
        host.call(b"count")
    assert host.status().state == "closed"
    host.close()
    with start(tmp_path / "store") as again:
        assert call(again, "count") == b"120"


def test_a_host_closes_the_store_that_it_opened_and_no_other(tmp_path: Path, store: WatchedStore) -> None:
    start(store).close()
    assert store.head().n == 1
    start(tmp_path / "mine").close()
    LmdbStore.open(tmp_path / "mine").close()


# --- starting -----------------------------------------------------------------------------------------------


def test_one_store_takes_one_host(tmp_path: Path) -> None:
    with start(tmp_path / "store") as host:
        with pytest.raises(StoreLocked, match="open in this process"):
            start(tmp_path / "store")
        assert call(host, "count") == b"0"


def test_the_key_file_stands_beside_the_store_by_default(tmp_path: Path) -> None:
    with EnclaveHost.start(Ledger, tmp_path / "state", in_process=True):
        assert (tmp_path / "state.key").exists()
        assert not list((tmp_path / "state").glob("*key*"))


def test_a_store_is_not_opened_without_its_key_and_no_key_is_made_for_it(tmp_path: Path) -> None:
    start(tmp_path / "store").close()
    (tmp_path / "store.key").rename(tmp_path / "kept.key")
    with pytest.raises(WrongKey, match="no key file"):
        start(tmp_path / "store")
    assert not (tmp_path / "store.key").exists()
    (tmp_path / "store.key").write_bytes(bytes(32))
    with pytest.raises(WrongKey):
        start(tmp_path / "store")
    (tmp_path / "kept.key").rename(tmp_path / "store.key")
    start(tmp_path / "store").close()


def test_no_store_is_made_where_none_was_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        EnclaveHost.start(Ledger, tmp_path / "store", in_process=True, create=False)
    LmdbStore.open(tmp_path / "empty").close()
    with pytest.raises(StoreMissing, match="empty"):
        EnclaveHost.start(Ledger, tmp_path / "empty", in_process=True, create=False)
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}


def test_the_error_about_an_empty_store_shows_no_password(store: WatchedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_store.host.open_store", lambda *_arguments, **_options: store)
    url = "postgresql://pmap:secret@db.internal/pmap?password=hidden"
    with pytest.raises(StoreMissing, match=r"postgresql://db\.internal/pmap is empty$"):
        EnclaveHost.start(Ledger, url, simulated_key=store._folder.path.with_suffix(".key"), create=False)


def test_a_store_with_a_part_missing_is_corrupted_not_new(store: WatchedStore) -> None:
    start(store).close()
    store.keyring = lambda: None  # type: ignore[method-assign]
    with pytest.raises(CorruptedStore, match="no keyring"):
        start(store)


def test_an_enclave_with_state_needs_a_store_and_an_open_store_a_key_file(store: WatchedStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="store"):
        EnclaveHost.start(Ledger, in_process=True, simulated_key=tmp_path / "test.key")
    with pytest.raises(InvalidInput, match="simulated_key"):
        EnclaveHost.start(Ledger, store, in_process=True)
    with pytest.raises(InvalidInput, match="key file"):
        EnclaveHost.start(Ledger, "/", in_process=True)


def test_a_class_that_no_process_could_import_is_refused(tmp_path: Path) -> None:
    class Local(Ledger):
        pass

    with pytest.raises(InvalidInput, match="in_process=True"):
        start(tmp_path / "store", Local, in_process=False)
    with pytest.raises(InvalidInput, match="MODULE:CLASS"):
        EnclaveHost.start(7, tmp_path / "store")  # type: ignore[arg-type]
    with start(tmp_path / "store", Local) as host:
        assert host.status().enclave.endswith("Local")


def test_a_refusal_of_the_enclave_process_reaches_the_caller_and_frees_the_store(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a lot"):
        EnclaveHost.start("host_enclaves:BadSettings", tmp_path / "store", import_from=HERE)
    start(tmp_path / "store").close()


# --- without state ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_process", [True, False])
def test_an_enclave_without_state_answers_redelivers_and_forgets(in_process: bool) -> None:
    with EnclaveHost.start(Echo, in_process=in_process) as host:
        user = User(host)
        assert user.mail("hello") == b"hello"
        envelope = user.client.seal(b"again")
        reply = user.deliver(envelope)
        assert user.deliver(envelope) == reply
        assert host.poll(user.client.session) == [reply]
        assert user.client.accept(reply).checkpoint is None
        assert host.status().persistent is False
        host.restart()
        with pytest.raises(SessionUnknown):
            user.mail("hello")
        assert host.poll(user.client.session) == [reply], "it may still be what its sender looks for"
        with pytest.raises(InvalidInput):
            host.consistency(1, 1)


def test_a_heartbeat_needs_no_handler(host: EnclaveHost) -> None:
    user = User(host)
    assert user.client.send(b"", user.deliver, kind=RequestKind.HEARTBEAT).outcome is Outcome.HEARTBEAT


def test_the_outbox_in_memory_keeps_order_and_bounds() -> None:
    outbox = MemoryOutbox(max_bytes=100)
    address, other = bytes(16), bytes([1]) * 16
    outbox.begin_epoch()
    outbox.change([OutboxItem(1, index, address, bytes(30)) for index in range(2)], [])
    outbox.change([OutboxItem(2, 0, other, bytes(30))], [(1, 0), (9, 9)])
    assert [item.index for item in outbox.outbox(address)] == [1]
    assert outbox.outbox_item(1, 0) is None and outbox.outbox_item(2, 0) is not None
    outbox.change([OutboxItem(3, 0, address, bytes(41))], [])
    assert outbox.outbox_item(1, 1) is None, "the oldest made room"
    assert [item.n for item in outbox.outbox(address)] == [3]
    outbox.begin_epoch()
    assert outbox.outbox_item(3, 0) is None, "numbers are another incarnation's now"
    assert [item.n for item in outbox.outbox(address)] == [3]
    assert outbox.outbox(address, limit=0) == []


# --- the intake ---------------------------------------------------------------------------------------------


def test_the_intake_refuses_more_than_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_store.intake.MAX_WAITING_MAILS", 2)
    monkeypatch.setattr("host_store.intake.MAX_WAITING_BYTES", 10)
    intake = Intake()
    for size in (4, 4):
        intake.put(Incoming(IncomingKind.MAIL, bytes(size)), Future())
    with pytest.raises(HostUnavailable, match="busy"):
        intake.put(Incoming(IncomingKind.MAIL, b""), Future())
    assert [len(item.incoming.data) for item in intake.take() or []] == [4, 4]
    intake.put(Incoming(IncomingKind.MAIL, bytes(8)), Future())
    with pytest.raises(HostUnavailable, match="busy"):
        intake.put(Incoming(IncomingKind.MAIL, bytes(3)), Future())


def test_the_intake_makes_batches_by_size_and_gives_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_store.intake.MAX_BATCH_BYTES", 10)
    intake = Intake()
    for size in (6, 4, 1):
        intake.put(Incoming(IncomingKind.MAIL, bytes(size)), Future())
    batch = intake.take()
    assert batch is not None and [len(item.incoming.data) for item in batch] == [6, 4]
    intake.put_back(batch[1])
    assert [len(item.incoming.data) for item in intake.take() or []] == [4, 1]
    intake.interrupt()
    assert intake.take() == []
    intake.close()
    assert intake.take() is None


def test_the_intake_waits_for_the_wanted_number_but_for_no_more_and_no_longer_than_it_may() -> None:
    intake = Intake()
    intake.put(Incoming(IncomingKind.MAIL, b"1"), Future())
    assert len(intake.take(wanted=3, patience=0.01) or []) == 1, "nobody else came"
    taken: list[int] = []
    taker = threading.Thread(target=lambda: taken.append(len(intake.take(wanted=3, patience=SECONDS) or [])))
    taker.start()
    items = [Item(Incoming(IncomingKind.MAIL, bytes([number])), Future()) for number in range(3)]
    intake.put_all(items[:1])
    intake.put_all(items[1:])
    taker.join(SECONDS)
    assert taken == [3]
    # Who does not wait for them takes none if there are fewer.
    for item in items[:2]:
        intake.put(item.incoming, item.promise)
    assert intake.take_now(3) == []
    intake.interrupt()
    assert intake.take_now(1) == [] and intake.take() == [], "an interruption is seen first"
    assert len(intake.take_now(2)) == 2 and intake.take_now(1) == []
    # The end and an interruption are not waited over.
    intake.put(Incoming(IncomingKind.MAIL, b"2"), Future())
    intake.interrupt()
    assert intake.take(wanted=3, patience=SECONDS) == []
    intake.close()
    assert len(intake.take(wanted=3, patience=SECONDS) or []) == 1


def test_items_that_the_intake_does_not_take_learn_why_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_store.intake.MAX_WAITING_MAILS", 2)
    intake, promises = Intake(), [Future[Any]() for _ in range(3)]
    intake.put_all([Item(Incoming(IncomingKind.MAIL, b""), promise) for promise in promises])
    assert [promise.done() for promise in promises] == [False, False, True]
    assert isinstance(promises[2].exception(), HostUnavailable) and len(intake) == 2


def test_a_batch_waits_for_more_only_while_that_pays() -> None:
    gathering = Gathering()
    for _ in range(5):
        gathering.took(1, overlapping=False)
    assert gathering.wanted == 1, "a client that is alone is not kept waiting"
    for count in (1, 2, 3):
        gathering.took(count, overlapping=True)
    assert gathering.wanted == 4 and gathering.enough == 2
    gathering.took(2, overlapping=True)
    assert gathering.wanted == 2, "so many came in time"
    assert gathering.enough == 1
    assert gathering.patience(0.004) == 0.001 and gathering.patience(3600.0) <= 0.01
    gathering.took(5, overlapping=True)
    assert gathering.wanted == 3
