"""The world of :mod:`fuzz.world` in Hypothesis's hands (it shrinks what fails), and a few hundred seeded worlds."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from fuzz.moves import HONEST, MALICIOUS, Move
from fuzz.soak import STEPS_PER_WORLD, Tally, play, play_all
from fuzz.world import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pmap.freshness import Evidence, Ruling
from pmap.mailroom import Mailroom
from pmap.sessions import Sessions
from wire.crypto import Unauthentic
from wire.errors import Malformed
from wire.mail import open_reply

NUMBERS = st.integers(0, 255)
EXAMPLES = int(os.environ.get("PMAP_FUZZ_EXAMPLES", "30"))
WORLDS = int(os.environ.get("PMAP_FUZZ_WORLDS", "20"))


def drawn(moves: tuple[Move, ...]) -> st.SearchStrategy[Move]:
    return st.sampled_from([move for move in moves for _ in range(max(1, move.weight // 3))])


class Honest(RuleBasedStateMachine):
    """Crashes, losses and restarts: no alarm, nothing lost, nothing twice."""

    moves, honest = HONEST, True

    @initialize(people=st.integers(1, 4))
    def begin(self, people: int) -> None:
        self.world = World(honest=self.honest, people=people)

    @rule(data=st.data(), x=NUMBERS, y=NUMBERS, z=NUMBERS)
    def move(self, data: Any, x: int, y: int, z: int) -> None:
        data.draw(drawn(self.moves)).make(self.world, x, y, z)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


class Malicious(Honest):
    """And rollbacks, clones, replays, misled and restored clients: nobody is fooled who can know better."""

    moves, honest = MALICIOUS, False


TestHonest = pytest.mark.timeout(100)(Honest.TestCase)
TestHonest.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestMalicious = pytest.mark.timeout(100)(Malicious.TestCase)
TestMalicious.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)


def test_seeded_worlds_break_no_promise() -> None:
    first = int.from_bytes(os.urandom(3), "big")
    print(f"seeds {first}..{first + WORLDS - 1}: PYTHONPATH=tests python -m fuzz.soak --seed SEED plays one again")
    counts: Counter[str] = Counter()
    for seed in range(first, first + WORLDS):
        counts += play(seed, 150)
    assert counts["accepted"] > 3 * WORLDS and counts["RollbackDetected"] > 0, counts


def test_a_seed_is_a_run() -> None:
    for seed in (2, 3):
        assert play(seed, 200) == play(seed, 200)


def test_the_long_run_counts_its_steps_and_tells_faults_by_their_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    for played in play_all([2, 3]):
        tally.add(played)
    assert tally.steps == 2 * STEPS_PER_WORLD and tally.faults == []
    assert "alarms with an honest host: 0\nfaults: 0" in tally.report()
    broken_replays(monkeypatch)
    for played in play_all([2]):
        tally.add(played)
    assert tally.faults == [2] and "faults: 1, seeds [2]" in tally.report()


# --- an oracle that accepts everything would prove nothing ---


def broken_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number executes."""
    monkeypatch.setattr("pmap.mailroom.rule_on_mail", lambda *_: Ruling.EXECUTE)
    monkeypatch.setattr(Evidence, "check_stream", lambda *_: True)


def broken_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is looked at and not judged."""
    monkeypatch.setattr(Evidence, "check_highest", lambda *_, **__: None)
    monkeypatch.setattr(Evidence, "check_stream", lambda *_: True)


def broken_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A RECOVER does not use the number up: the enclave says FENCED and executes the mail all the same, later."""
    genuine = Mailroom._record

    def forgetful(
        self: Any, position: int, session: Any, request: Any, key: bytes, stream: Any, mail: bytes, reply: Any
    ) -> None:
        before = stream.encode()
        genuine(self, position, session, request, key, stream, mail, reply)
        if reply.outcome.name == "FENCED":
            with self._runtime.entries.transaction():
                self._runtime.entries.put(key, before)

    monkeypatch.setattr(Mailroom, "_record", forgetful)


def broken_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client takes any reply that it can open."""

    def credulous(untrusted: bytes, keys: Any, pin: Any, *_: object) -> Any:
        try:
            return open_reply(untrusted, keys.secret, pin.store_id)
        except Unauthentic as error:
            raise Malformed("not for this session") from error

    monkeypatch.setattr("client.courier.open_answer", credulous)
    monkeypatch.setattr("client.courier.check_answer", lambda *_: None)


def broken_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm is told and forgotten."""
    monkeypatch.setattr("pmap.quarantine.Quarantine.check", lambda _self: None)


def broken_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions outlive the enclave: mails are bound to no epoch."""
    shared = Sessions()

    def inherit(self: Sessions) -> None:
        self._by_id, self._by_client = shared._by_id, shared._by_client

    monkeypatch.setattr(Sessions, "__init__", inherit)


BROKEN = [broken_replays, broken_evidence, broken_fence, broken_client, broken_quarantine, broken_epochs]


@pytest.mark.parametrize("break_it", BROKEN)
def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch, break_it: Any) -> None:
    break_it(monkeypatch)
    for seed in range(300):
        try:
            play(seed, 150)
        except AssertionError:
            return
        except KeyError:
            continue  # an enclave that is broken like this may also break down
    pytest.fail("300 worlds, and nobody noticed")
