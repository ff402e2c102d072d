"""Traces of the real code: what enclaves and clients of a fuzzed world do, as steps of the model.

The world is that of :mod:`fuzz.world`: real enclave cores, real clients, a host that restarts, rolls back, clones,
replays, loses and answers with old messages. Nothing in the code is changed to be recorded: hellos and RECOVERs are
seen as they are sealed, and what else a client did is read off its state at every write of its state file.
``model/Trace.tla`` replays the events; one event is one step of the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from fuzz.moves import HONEST, MALICIOUS
from fuzz.world import MemoryFile, Person, Wire, World

from client import handshake, recovery
from pmap.core import EnclaveCore
from wire.boundary import AnswerKind, Delivery, Incoming, Rejection
from wire.checkpoint import Checkpoint, decode_evidence
from wire.crypto import Unauthentic
from wire.errors import (
    ClientStale,
    EvidenceUnproven,
    ForkDetected,
    GapRefused,
    Malformed,
    PmapError,
    ReplayRefused,
    RollbackDetected,
)
from wire.mail import Hello, Outcome, Request, RequestKind, open_reply, request_id, session_of
from wire.record import STORE_ID_BYTES
from wire.refusal import decode_refusal

TRACED = {
    *(
        "send",
        "send at once",
        "heartbeat",
        "poll",
        "settle",
        "compare",
        "kill client",
        "lose request",
        "lose reply",
        "crash",
        "restart",
    ),
    *(
        "call",
        "rotate key",
        "roll back",
        "clone",
        "race",
        "forget alarm",
        "lead",
        "lose outbox",
        "replay",
        "old answer",
    ),
}
"""Moves of which each step is seen. Not among them: what the model does not have (an invite's evidence, a copy of a
client's old state, group commits)."""
_REFUSALS = {
    ClientStale: "stale",
    GapRefused: "gap",
    ReplayRefused: "replay",
    RollbackDetected: "rollback",
    ForkDetected: "fork",
}
_COMMITS = {
    Outcome.WELCOME: "welcome",
    Outcome.EXECUTED: "execute",
    Outcome.HANDLER_FAILED: "execute",
    Outcome.HEARTBEAT: "execute",
    Outcome.FENCED: "fence",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One step. Fields are those of ``model/Trace.tla``: ``kind`` to ``hi`` are a request, ``at`` the epoch that
    handles it, ``x`` a node; ``highest``, ``next`` and ``evidence`` are the client's afterwards."""

    do: str
    c: int = 0
    t: str = ""
    kind: str = ""
    s: int = 0
    e: int = 0
    n: int = 0
    m: int = 0
    shown: int = 0
    hi: int = 0
    at: int = 0
    ruling: str = ""
    x: int = 0
    highest: int = 0
    next: int = 0
    evidence: int = 0

    def encode(self) -> str:
        """A TLA+ record."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        shown = (f'{name} |-> "{value}"' if isinstance(value, str) else f"{name} |-> {value}" for name, value in fields)
        return f"[{', '.join(shown)}]"


@dataclass
class _Known:
    """What of a client's state was recorded already."""

    highest: Checkpoint | None = None
    session: bytes = b""
    sequences: dict[str, int] = field(default_factory=dict)
    pending: dict[str, bytes] = field(default_factory=dict)
    comparing: bool = False


class Recorder:
    """Collects the events of one world."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clients: dict[int, int] = {}
        self.topics: set[str] = set()
        self._nodes: dict[tuple[int, bytes], int] = {}
        self._epochs: dict[bytes, int] = {}
        self._mails: dict[tuple[int, bytes], int] = {}
        self._requests: dict[bytes, Event] = {}
        self._secrets: dict[bytes, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._session_epochs: dict[bytes, int] = {}
        self._owners: dict[bytes, Person] = {}
        self._known: dict[int, _Known] = {}

    # --- names -------------------------------------------------------------------------------------------

    def _node(self, checkpoint: Checkpoint | None) -> int:
        return 0 if checkpoint is None else self._nodes[checkpoint.size, checkpoint.root]

    def _shown(self, evidence: bytes) -> int:
        return self._node(decode_evidence(bytes(STORE_ID_BYTES), evidence))

    def _client(self, person: Person) -> int:
        return self.clients.setdefault(id(person), len(self.clients) + 1)

    def _mail(self, client: int, envelope: bytes, request: Request) -> int:
        """The mail's identity for its sender: its body names it, also when it is sealed anew. Heartbeats have none."""
        if request.kind is RequestKind.RECOVER:
            return self._mails[client, request.body]
        own = request_id(envelope)
        name = own if request.kind is RequestKind.HEARTBEAT else request.body
        number = self._mails.setdefault((client, name), len(self._mails) + 1)
        self._mails[client, own] = number
        return number

    def epoch(self, core: EnclaveCore) -> int:
        """The number of an enclave's epoch; at first sight it is a start."""
        epoch = core.attestation.epoch
        if epoch not in self._epochs:
            if not self._epochs:
                self._nodes[core.checkpoint.size, core.checkpoint.root] = 1
            self._epochs[epoch] = len(self._epochs) + 1
            self.events.append(Event("start", e=self._epochs[epoch], x=self._node(core.checkpoint)))
        return self._epochs[epoch]

    # --- enclaves ----------------------------------------------------------------------------------------

    def handled(self, core: EnclaveCore, envelope: bytes, delivery: Delivery) -> None:
        """An enclave has handled one envelope."""
        (answer,) = delivery.answers
        x = 0
        if delivery.commit is not None:
            checkpoint = core.checkpoint
            x = self._nodes[checkpoint.size, checkpoint.root] = len(self._nodes) + 1
        if answer.kind in (AnswerKind.CALL_DONE, AnswerKind.CALL_FAILED):
            if x:
                self.events.append(Event("call", at=self.epoch(core), x=x))
            return
        request, message = self._requests[envelope], answer.data
        if answer.kind is AnswerKind.REJECTED:
            ruling = "unknown session" if answer.slot == Rejection.SESSION_UNKNOWN else "rejected"
        elif answer.kind is AnswerKind.BOXED:
            mine = {item.slot: item.message for item in delivery.outbox} if answer.n == delivery.number else {}
            ruling, message = "redeliver", mine.get(answer.slot) if delivery.commit is not None else None
        else:
            ruling = "direct"
        if message is not None:
            ruling = self._ruling(core, envelope, message, committed=delivery.commit is not None)
        if ruling != "unproven":  # the host supplies the proof, and the envelope comes again
            self.events.append(replace(request, do="handle", at=self.epoch(core), ruling=ruling, x=x))

    def _ruling(self, core: EnclaveCore, envelope: bytes, message: bytes, *, committed: bool) -> str:
        store_id = core.attestation.store_id
        reply = open_reply(message, self._secrets[session_of(envelope)], store_id)
        if reply.outcome is not Outcome.REFUSED:
            return _COMMITS[reply.outcome] if committed else "tell"
        assert reply.payload is not None
        error = decode_refusal(reply.payload, store_id)
        if isinstance(error, EvidenceUnproven):
            return "unproven"
        if isinstance(error, RollbackDetected | ForkDetected) and not committed:
            return "quarantine"
        return _REFUSALS.get(type(error), type(error).__name__)

    # --- clients -----------------------------------------------------------------------------------------

    def sync(self, person: Person) -> None:
        """Record what a client's state says that it has done since the last time."""
        client, state = self._client(person), person.state
        known = self._known.setdefault(client, _Known())
        for topic, stream in state.streams.items():
            self.topics.add(topic)
            before = known.pending.pop(topic, None)
            if before is not None and stream.sequence > known.sequences.get(topic, 0):
                self._did("settle", person, topic, x=self._node(stream.evidence))
                known.highest = state.highest
            elif before is not None and (stream.pending is None or stream.pending.envelope != before):
                self._did("drop", person, topic)
            known.sequences[topic] = stream.sequence
            if stream.pending is not None:
                known.pending[topic] = stream.pending.envelope
                if stream.pending.envelope != before:
                    self._sent(person, stream.pending.envelope, stream.pending.request, stream.pending.keys.id)
        if state.session is not None and state.session.id != known.session:
            known.session = state.session.id
            self._secrets[state.session.id] = state.session.secret
            self._did("welcome", person, x=self._node(state.highest))
            known.highest = state.highest
        if state.highest != known.highest:
            self._did("compare" if known.comparing else "inbox", person, x=self._node(state.highest))
            known.highest = state.highest
        known.comparing = False

    def compares(self, person: Person) -> None:
        """A client asks for a consistency proof."""
        self.sync(person)
        self._known[self._client(person)].comparing = True

    def greets(self, person: Person, hello: Hello, epoch: bytes, session: bytes, envelope: bytes) -> None:
        """A client has sealed a hello. Others of its operations can go on before it leaves."""
        self.sync(person)
        self._owners[session] = person
        self._numbers[session], self._session_epochs[session] = hello.number + 1, self._epochs[epoch]
        self._secrets[session] = hello.secret
        request = Event(
            "hello",
            self._client(person),
            kind="hello",
            s=self._numbers[session],
            e=self._session_epochs[session],
            hi=self._node(hello.highest),
        )
        self._requests[envelope] = request
        self.events.append(request)

    def asks(self, request: Request, session: bytes, envelope: bytes) -> None:
        """A client has sealed a RECOVER."""
        person = self._owners[session]
        self.sync(person)
        self._sent(person, envelope, request, session)

    def _sent(self, person: Person, envelope: bytes, request: Request, session: bytes) -> None:
        client, recover = self._client(person), request.kind is RequestKind.RECOVER
        sealed = Event(
            "ask" if recover else "send",
            client,
            request.topic,
            "recover" if recover else "mail",
            self._numbers[session],
            self._session_epochs[session],
            request.sequence,
            self._mail(client, envelope, request),
            self._shown(request.evidence),
            self._shown(request.highest),
        )
        self._requests[envelope] = sealed
        self.events.append(sealed)

    def _did(self, what: str, person: Person, topic: str = "", x: int = 0) -> None:
        state = person.state
        stream = state.streams.get(topic)
        following, evidence = (0, None) if stream is None else (stream.sequence, stream.evidence)
        self.events.append(
            Event(
                what,
                self._client(person),
                topic,
                x=x,
                highest=self._node(state.highest),
                next=following,
                evidence=self._node(evidence),
            )
        )


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record whatever worlds do in this block."""
    recorder, owners = Recorder(), dict[int, Person]()
    deliver, write, begin = EnclaveCore.deliver, MemoryFile.write, Person.begin
    attestation, consistency = Wire.attestation, Wire.consistency
    greet, ask = handshake.seal_hello, recovery.seal_request

    def core_deliver(core: EnclaveCore, batch: Sequence[Incoming]) -> Iterator[Delivery]:
        recorder.epoch(core)
        for delivery in deliver(core, batch):
            recorder.handled(core, batch[0].data, delivery)
            yield delivery

    def file_write(file: MemoryFile, state: bytes, *, durable: bool) -> None:
        write(file, state, durable=durable)
        recorder.sync(owners[id(file)])

    def person_begin(person: Person, state: Any) -> None:
        owners[id(person.file)] = person
        begin(person, state)

    def wire_attestation(wire: Wire) -> bytes:
        recorder.epoch(wire.person.branch.core)
        return attestation(wire)

    def seal_hello(hello: Hello, key: Any, mail_key: Any, store_id: bytes, epoch: bytes, session: bytes) -> bytes:
        envelope = greet(hello, key, mail_key, store_id, epoch, session)
        person = next(person for person in owners.values() if person.client.client_id == hello.client.hex())
        recorder.greets(person, hello, epoch, session, envelope)
        return envelope

    def seal_request(request: Request, session: bytes, *how: Any) -> bytes:
        envelope = ask(request, session, *how)
        recorder.asks(request, session, envelope)
        return envelope

    def wire_consistency(wire: Wire, size1: int, size2: int) -> list[bytes]:
        recorder.compares(wire.person)
        return consistency(wire, size1, size2)

    with (
        patch.object(EnclaveCore, "deliver", core_deliver),
        patch.object(MemoryFile, "write", file_write),
        patch.object(Person, "begin", person_begin),
        patch.object(Wire, "attestation", wire_attestation),
        patch.object(handshake, "seal_hello", seal_hello),
        patch.object(recovery, "seal_request", seal_request),
        patch.object(Wire, "consistency", wire_consistency),
    ):
        yield recorder


def record(seed: int, moves: int, *, tolerate: bool = False) -> Recorder:
    """The trace of one world; an even seed's host is honest. ``tolerate``: of code that is broken on purpose."""
    rng = random.Random(seed)
    honest = seed % 2 == 0
    chosen = [move for move in (HONEST if honest else MALICIOUS) if move.name in TRACED]
    weights = [move.weight for move in chosen]
    with recording() as recorder:
        try:
            world = World(honest=honest, people=2 + seed % 2)
            for move in rng.choices(chosen, weights, k=moves):
                move.make(world, *(rng.randrange(1 << 16) for _ in range(3)))
        except (AssertionError, KeyError, PmapError, Malformed, Unauthentic):
            if not tolerate:
                raise
    return recorder


Trace = list[Event]


def traces(seeds: Iterable[int], moves: int, report: Callable[[int], object] = lambda _: None) -> list[Trace]:
    """One trace for each seed; ``report`` is told how many there are."""
    made: list[Trace] = []
    for seed in seeds:
        made.append(record(seed, moves).events)
        report(len(made))
    return made


def encode_traces(recorded: Sequence[Trace]) -> str:
    """The module ``TraceData``, which ``model/Trace.tla`` extends."""
    topics = sorted({event.t for trace in recorded for event in trace if event.t}) or ["none"]
    people = max((event.c for trace in recorded for event in trace), default=1)
    lists = ",\n".join("<<" + ",\n".join(event.encode() for event in trace) + ">>" for trace in recorded)
    names = ", ".join(f'"{topic}"' for topic in topics)
    return (
        "---- MODULE TraceData ----\n"
        f"TraceTopics == {{{names}}}\nTracePeople == {max(people, 1)}\nTraces == <<\n{lists}\n>>\n====\n"
    )
