"""Clients, enclaves and a host that does anything, with an oracle that knows what really happened.

The enclave's core and the clients are real; the host keeps its stores in memory. The oracle is a tree: a node is a
commit, with the mails that its handlers executed and a plain dict of what the map must hold then. Whatever a client
accepts must be explained by one path through that tree:

1. An accepted reply names a commit (size, root) in which its mail was executed, with the result that the dict gives.
2. That commit lies behind every commit that the client accepted before (so two clients whose paths have parted never
   accept anything from a common one again).
3. A mail (a client's number on a topic) is executed in one commit of the whole tree, however many branches it is shown
   to. So no two paths share an operation without sharing everything before it: no forks are joined. A mail that was
   fenced and sent again is another one; a name (its content) is still on no path twice.
4. A handler runs only where the sender's evidence lies on the path; all else would be execution on a stale state.
5. A rollback or fork verdict is true, and signed: the checkpoint that proves it is not on the path of the enclave.
6. An enclave starts on a state that some enclave made, with the map of that commit, or not at all.
7. With an honest host there is no verdict at all, and in the end every mail was executed once.

Everything random comes from the world's seed, so a seed is a run. (But for the keys of HPKE: nothing depends on those.)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from core_host import TEE
from fuzz.interleaving import Operation, interleave

from client.constraint import Constraint
from client.invite import Invite
from client.reply import Fate, MailFailed, Resolved
from client.session import Session
from client.state import ClientState
from client.sync import EnclaveClient
from pmap import Enclave, Mail
from pmap.core import EnclaveCore
from pmap.startup import Restart, start_new
from wire.alarm import verify_alarm
from wire.boundary import Answer, AnswerKind, Incoming, IncomingKind, Rejection
from wire.checkpoint import Checkpoint
from wire.errors import (
    ClientStale,
    CorruptedStore,
    ForkDetected,
    FreshnessError,
    HostUnavailable,
    LimitExceeded,
    Malformed,
    OutcomeUnknown,
    PmapError,
    RollbackDetected,
    SessionUnknown,
)
from wire.errors import Undecryptable as UndecryptableMail
from wire.hpke import Kem
from wire.merkle import Frontier, leaf_hash, prove_consistency
from wire.record import decode_header

KEYS = ("a", "b", "c")
TOPICS = ("one", "two")
INSECURE = Constraint.parse("SEC:INSECURE")


@dataclass(eq=False, slots=True)
class Node:
    """A commit: its place, and what was executed in it and on the way to it."""

    parent: Node | None
    size: int
    root: bytes
    values: dict[str, bytes]
    executed: frozenset[str]
    """The mails of the whole path."""
    results: dict[str, bytes]
    """What this commit's own mails were answered with."""
    inboxes: dict[str, tuple[bytes, ...]]
    """Client's name -> the mails that the enclave sent it on this path."""

    def is_on_path_to(self, other: Node) -> bool:
        """Whether ``other`` is this commit or comes after it."""
        at: Node | None = other
        while at is not None and at.size > self.size:
            at = at.parent
        return at is self


class Execution(NamedTuple):
    """A handler that ran: on which mail (sender, topic, number; none for a host's call), and what came of it."""

    name: str
    mail: tuple[str, str, int] | None
    result: bytes
    effect: Callable[[dict[str, bytes]], bytes]
    outgoing: tuple[str, bytes] | None


class Killed(BaseException):
    """A client's process ends here."""


class Journal(Enclave):
    """The enclave under test. It tells the oracle what it executes; ``world`` is set on the class that runs."""

    persistent_map = True
    mail_key = Kem.X25519  # ten times faster than the default, and no other code than that of the key itself
    world: World

    def receive_mail(self, mail: Mail) -> bytes | None:
        return self.world.execute(self, mail)

    def receive_from_host(self, data: bytes) -> bytes | None:
        return self.world.execute_call(self, data)


# --- the host -------------------------------------------------------------------------------------------------


class Branch:
    """One store with the enclave that runs on it."""

    def __init__(self, world: World, core: EnclaveCore, keyring: bytes, records: list[bytes], head: Node) -> None:
        self.world = world
        self.keyring = keyring
        self.records = records
        self.head = head
        self.outbox: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self.core = core

    @property
    def quarantined(self) -> bool:
        return self.core.alarm is not None

    def incarnate(
        self, records: list[bytes] | None = None, *, keyring: bytes | None = None, rotate: bool = False
    ) -> Branch:
        """Another enclave on these records (or all) and this keyring (or ours). Raises what it says of them."""
        world = self.world
        records = self.records if records is None else records
        restart = Restart(
            world.enclave(), TEE, world.randomness, self.keyring if keyring is None else keyring, rotate=rotate
        )
        restart.feed([records[-1], *records[decode_header(records[-1]).tail - 1 :]])
        core = restart.finish()
        head = world.node_of(core.checkpoint)
        assert core.map == head.values, "the map of another commit than the checkpoint's"
        kept = self.keyring if keyring is None else keyring
        if restart.new_keyring is not None:
            kept = restart.new_keyring
            world.keyrings.append(kept)
        branch = Branch(world, core, kept, list(records), head)
        branch.outbox = {place: item for place, item in self.outbox.items() if place[0] <= len(records)}
        return branch

    def deliver(self, envelope: bytes, *, store: bool = True) -> bytes:
        """Hand a message to the enclave. Without ``store`` the machine goes down before anything is kept."""
        (answer,) = self.deliver_all([Incoming(IncomingKind.MAIL, envelope)], store=store)
        if isinstance(answer, PmapError):
            raise answer
        return answer

    def deliver_all(self, batch: Sequence[Incoming], *, store: bool = True) -> list[bytes | PmapError]:
        """Hand over a batch; the answers. Raises :class:`HostUnavailable` where nothing is kept."""
        world = self.world
        world.begin(self)
        (delivery,) = self.core.deliver(batch)
        if not store:
            world.end(self, stored=False)
            raise HostUnavailable("the machine went down before anything was stored")
        if delivery.commit is not None:
            self.records.append(delivery.commit.record)
        world.end(self, stored=delivery.commit is not None)
        for place in delivery.drops:
            self.outbox.pop(place, None)
        for item in delivery.outbox:
            self.outbox[delivery.number, item.slot] = (item.address, item.message)
            world.posted.append(item.message)
        wanted = dict(delivery.proofs)
        answers: list[bytes | PmapError] = []
        for position, answer in enumerate(sorted(delivery.answers, key=lambda one: one.position)):
            assert answer.position == position, "each item has one answer"
            if position in wanted:
                self._teach(wanted[position])
                answers += self.deliver_all([batch[position]])
            else:
                answers.append(self._said_by(answer))
        return answers

    def _said_by(self, answer: Answer) -> bytes | PmapError:
        if answer.kind in (AnswerKind.CALL_DONE, AnswerKind.CALL_FAILED, AnswerKind.DIRECT):
            return answer.data or b""
        if answer.kind is AnswerKind.REJECTED:
            return _REJECTIONS[Rejection(answer.slot)]("rejected")
        kept = self.outbox.get((answer.n, answer.slot))
        return HostUnavailable("the reply is not there any more") if kept is None else kept[1]

    def polled(self, address: bytes) -> list[bytes]:
        """What waits for a session."""
        return [message for _, (to, message) in sorted(self.outbox.items()) if to == address]

    def node(self, level: int, index: int) -> bytes:
        """A node of the Merkle tree over the records."""
        frontier = Frontier()
        for record in self.records[index << level : (index + 1) << level]:
            frontier.append(leaf_hash(record))
        return frontier.root()

    def _teach(self, size: int) -> None:
        frontier = Frontier()
        for record in self.records[:size]:
            frontier.append(leaf_hash(record))
        to_size = len(self.records)
        self.core.learn(size, frontier.root(), to_size, prove_consistency(size, to_size, self.node))


_REJECTIONS: dict[Rejection, type[PmapError]] = {
    Rejection.MALFORMED: Malformed,
    Rejection.SESSION_UNKNOWN: SessionUnknown,
    Rejection.UNDECRYPTABLE: UndecryptableMail,
}


# --- clients --------------------------------------------------------------------------------------------------


class MemoryFile:
    """A state file: what was saved last, and what a power cut leaves of it."""

    def __init__(self, *, sync_receipts: bool) -> None:
        self._sync_receipts = sync_receipts
        self.saved: bytes | None = None
        self.durable: bytes | None = None

    def write(self, state: bytes, *, durable: bool) -> None:
        self.saved = state
        if durable or self._sync_receipts:
            self.durable = state

    def close(self) -> None:
        """Nothing to let go of."""


Interference = Callable[[bytes, Callable[[bytes], bytes]], bytes]


class Wire:
    """A client's transport."""

    def __init__(self, world: World, person: Person) -> None:
        self.world = world
        self.person = person

    def attestation(self) -> bytes:
        return self.person.branch.core.attestation.encode()

    def deliver(self, envelope: bytes) -> bytes:
        self.world.requests.append(envelope)
        interference, self.person.interference = self.person.interference, None

        def honestly(envelope: bytes) -> bytes:
            answer = self.person.branch.deliver(envelope)
            self.world.answers.append(answer)
            return answer

        return honestly(envelope) if interference is None else interference(envelope, honestly)

    def poll(self, address: bytes) -> list[bytes]:
        genuine, extra = self.person.branch.polled(address), self.person.extra_messages
        self.person.extra_messages = []
        return [*extra, *genuine] if self.world.odd() else [*genuine, *extra]

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        branch = self.person.branch
        if not 0 < size1 <= size2 <= len(branch.records):
            raise HostUnavailable("no such proof")
        return prove_consistency(size1, size2, branch.node)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(eq=False)
class Person:
    """A client over all lives of its process, and what it has accepted so far."""

    world: World
    name: str
    branch: Branch
    file: MemoryFile = field(init=False)
    interference: Interference | None = None
    last: Node | None = None
    accepted: list[str] = field(default_factory=list)
    inbox: list[bytes] = field(default_factory=list)
    open_mails: dict[str, str] = field(default_factory=dict)
    """Topic -> the mail whose outcome this client does not know."""
    backups: list[tuple[bytes, Node | None, list[bytes], dict[str, str]]] = field(default_factory=list)
    client: EnclaveClient = field(init=False)
    restored: bool = False
    extra_messages: list[bytes] = field(default_factory=list)
    """What the host puts among the messages of the next poll."""

    def __post_init__(self) -> None:
        self.file = MemoryFile(sync_receipts=self.world.sync_receipts)
        self.begin(ClientState.new(self.world.randomness))

    def begin(self, state: ClientState) -> None:
        """A process with this state."""
        session = Session(state, INSECURE, delays=(0.0, 0.0), randomness=self.world.randomness)
        self.client = EnclaveClient(session, Wire(self.world, self), self.file, None)  # type: ignore[arg-type]
        self.world.people_by_key[session.client_id] = self

    @property
    def state(self) -> ClientState:
        return self.client._session.state

    @property
    def highest(self) -> Checkpoint | None:
        return self.state.highest


# --- the world ------------------------------------------------------------------------------------------------


class World:
    """See the module's docstring. Every move is a method; ``honest`` worlds only make those that an honest one can."""

    def __init__(self, *, honest: bool, people: int = 3, seed: int = 0) -> None:
        self.honest = honest
        # In some worlds clients take the evidence of the last replies for granted: a power cut may take it away.
        self.sync_receipts = seed // 2 % 4 > 0
        self._random = random.Random(f"randomness of world {seed}")
        self.randomness = self._random.randbytes
        self.counts: Counter[str] = Counter()
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.posted: list[bytes] = []
        """Every message that any enclave ever left for somebody."""
        self.held: list[bytes] = []
        """Requests that are still on their way."""
        self.people_by_key: dict[str, Person] = {}
        self._nodes: dict[tuple[int, bytes], Node] = {}
        self._mails = 0
        self._here: Branch | None = None
        self._executing: list[Execution] = []
        self._executions: dict[tuple[str, str, int, str], Node] = {}
        self._sent: set[str] = set()
        self._abandoned: set[str] = set()  # mails whose outcome nobody will ask for any more
        self._failed: set[str] = set()
        self.enclave = type("Journal", (Journal,), {"world": self, "__module__": __name__})
        core, keyring, genesis = start_new(self.enclave(), TEE, self.randomness)
        self.keyrings = [keyring]
        assert genesis.commit is not None
        checkpoint = core.checkpoint
        origin = Node(None, 1, checkpoint.root, {}, frozenset(), {}, {})
        self._nodes[1, checkpoint.root] = origin
        self.branches = [Branch(self, core, keyring, [genesis.commit.record], origin)]
        self.people = [Person(self, f"p{number}", self.branches[0]) for number in range(people)]

    # --- what the enclave and the branches tell ---

    def node_of(self, checkpoint: Checkpoint) -> Node:
        """The commit that an enclave says it stands at."""
        node = self._nodes.get((checkpoint.size, checkpoint.root))
        assert node is not None, "an enclave runs on a state that none made"
        return node

    def begin(self, branch: Branch) -> None:
        """A branch's enclave is about to process something."""
        self._here, self._executing = branch, []

    def execute(self, enclave: Enclave, mail: Mail) -> bytes | None:
        """A handler runs."""
        branch, text = self._here, mail.body.decode()
        assert branch is not None
        assert not branch.quarantined, "a handler ran in quarantine"
        name, word, key, argument = text.split(" ")
        person = self.people_by_key.get(mail.sender)
        now = {one.name for one in self._executing}
        assert name not in branch.head.executed | now, f"{name} is executed twice on one path"
        if person is not None and person.highest is not None and not person.restored:
            shown = self._nodes[person.highest.size, person.highest.root]
            assert shown.is_on_path_to(branch.head), f"{name} is executed on a state that its sender knows to be stale"
        outgoing: tuple[str, bytes] | None = None
        entries = enclave.map
        match word:
            case "put":
                entries[key] = name.encode()
                result = b"put"
            case "append":
                result = entries[key] = entries.get(key, b"") + b"." + name.encode()
            case "delete":
                result = entries.pop(key, b"none")
            case "mail":
                recipient = self.people[int(argument)]
                outgoing = (recipient.client.client_id, name.encode())
                enclave.send(*outgoing)
                result = b"mailed"
            case "fail":
                entries[key] = b"never"
                raise ValueError(name)
            case _:
                result = entries.get(key, b"none")
        place = (mail.sender, mail.topic, mail.sequence)
        self._executing.append(Execution(name, place, result, _effect(word, key, name), outgoing))
        return result

    def execute_call(self, enclave: Enclave, data: bytes) -> bytes:
        """The handler for the host's own calls runs."""
        assert self._here is not None and not self._here.quarantined, "a call was executed in quarantine"
        name, key = data.decode().split(" ")
        enclave.map[key] = name.encode()
        self._executing.append(Execution(name, None, b"put", _effect("put", key, name), None))
        return b"put"

    def end(self, branch: Branch, *, stored: bool) -> None:
        """The commit is made, and stored or lost."""
        if not stored:
            return
        head, checkpoint = branch.head, branch.core.checkpoint
        values, results, executed, inboxes = dict(head.values), {}, set(head.executed), dict(head.inboxes)
        for name, _mail, result, effect, outgoing in self._executing:
            expected = effect(values)
            assert result == expected, f"{name} gave {result!r} where the map holds {expected!r}"
            results[name] = result
            executed.add(name)
            if outgoing is not None:
                inboxes[outgoing[0]] = (*inboxes.get(outgoing[0], ()), outgoing[1])
        assert checkpoint.size == head.size + 1
        node = Node(head, checkpoint.size, checkpoint.root, values, frozenset(executed), results, inboxes)
        assert self._nodes.setdefault((node.size, node.root), node) is node, "two commits with one root"
        branch.head = node
        for one in self._executing:
            if one.mail is not None:
                first = self._executions.setdefault((*one.mail, one.name), node)
                person = self.people_by_key.get(one.mail[0])
                # Two copies of a restored client's state are two clients, each of which may send the same again.
                assert first is node or person is None or person.restored, f"{one.name} was executed on two branches"

    # --- what clients do ---

    def send(self, person: Person, topic: str, word: str, key: str, argument: int = 0) -> None:
        """One mail; before it, whatever was open on its topic is settled."""
        self._mails += 1
        name = f"m{self._mails}"
        body = f"{name} {word} {key} {argument}".encode()
        self._settle(person, topic)
        if topic in person.open_mails:
            return
        person.open_mails[topic] = name
        self._sent.add(name)
        self._attempt(person, topic, name, lambda: person.client.send(body, topic))

    def send_at_once(self, person: Person, word: str, key: str, places: Sequence[int] = ()) -> None:
        """A mail on each topic, both under way at the same time; the host has its moments in between.

        A malicious one leads the client between the branches at ``places`` (by default all) meanwhile.
        """
        names: dict[str, str] = {}
        for topic in TOPICS:
            self._settle(person, topic)
            if topic not in person.open_mails:
                self._mails += 1
                names[topic] = f"m{self._mails}"
        session = person.client._session
        running = {t: Operation(session.send(t, f"{name} {word} {key} 0".encode())) for t, name in names.items()}
        person.open_mails.update(names)
        self._sent.update(names.values())

        chosen: list[Operation] = []

        def choose(ready: list[Operation]) -> Operation:
            # The one that runs mostly runs on: most races need one to get far while the other one stands still.
            if chosen and chosen[-1] in ready and self._random.random() < 0.7:
                return chosen[-1]
            chance = self._random.random()
            if chance < 0.1:
                self.restart(person.branch)
            elif chance < 0.6 and not self.honest:
                self.lead(person, self.branches[self._random.choice(places or range(len(self.branches)))])
            chosen.append(self._random.choice(ready))
            return chosen[-1]

        interleave(session, list(running.values()), person.client._driver._perform, choose)
        self.counts["at once"] += 1
        for topic, name in names.items():
            self._attempt(person, topic, name, running[topic].outcome)

    def heartbeat(self, person: Person, topic: str) -> None:
        """An acknowledgement."""
        self._settle(person, topic)
        if topic not in person.open_mails:
            receipt = self._guarded(person, lambda: person.client.heartbeat(topic))
            if receipt is not None and receipt.checkpoint is not None:
                self._accepts(person, receipt.checkpoint)

    def poll(self, person: Person) -> None:
        """Fetch the inbox."""
        mails = self._guarded(person, person.client.poll)
        for mail in mails or ():
            if mail.number >= len(person.inbox):
                assert mail.number == len(person.inbox), "inbox mails come in order"
                person.inbox.append(mail.body)
            assert person.inbox[mail.number] == mail.body
        if mails and person.highest is not None:
            node = self._nodes[person.highest.size, person.highest.root]
            sent = node.inboxes.get(person.client.client_id, ())
            assert tuple(person.inbox) == sent[: len(person.inbox)], "these mails were sent on this path, in this order"

    def settle(self, person: Person) -> None:
        """Find out what became of every open mail."""
        for topic in TOPICS:
            self._settle(person, topic)

    def compare(self, one: Person, other: Person) -> None:
        """Two clients compare their evidence."""
        theirs = other.highest
        if theirs is None or one.client.verdict is not None:
            return
        equal = self._guarded(one, lambda: one.client.compare(theirs)) is not None
        if equal and one.highest is not None:
            mine, seen = self.node_of(one.highest), self.node_of(theirs)
            first, second = (mine, seen) if mine.size <= seen.size else (seen, mine)
            assert first.is_on_path_to(second), "two histories were found to be one"
            self.counts["found equal"] += 1

    def kill(self, person: Person, *, before: bool, power_cut: bool) -> None:
        """The client dies around its next message, and starts again from what it has saved."""

        def die(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            if not before:
                forward(envelope)
            raise Killed

        person.interference = die
        try:
            self.send(person, TOPICS[0], "append", KEYS[0])
        except Killed:
            saved = person.file.durable if power_cut else person.file.saved
            assert saved is not None
            person.begin(ClientState.decode(saved))
            if power_cut and not self.sync_receipts:
                # What it has forgotten binds nobody any more (a host that is honest brings it all back).
                highest = person.highest
                person.last = None if highest is None else self._nodes[highest.size, highest.root]
            self.counts["client killed"] += 1
        person.interference = None

    # --- what an honest host does, by choice or by bad luck ---

    def call(self, branch: Branch, key: str) -> None:
        """The host's own way to the enclave; no evidence comes with it."""
        self._mails += 1
        name, before = f"c{self._mails}", branch.head
        branch.deliver_all([Incoming(IncomingKind.CALL, f"{name} {key}".encode())])
        assert branch.quarantined == (branch.head is before), "a call is refused in quarantine only"
        if branch.head is not before:
            self._sent.add(name)

    def hold(self, person: Person) -> None:
        """The next request takes its time."""

        def hold(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            self.held.append(envelope)
            raise HostUnavailable("still on its way")

        person.interference = hold

    def together(self, person: Person, *, store: bool) -> None:
        """What is still on its way arrives in one batch with the next request, each in any place and perhaps twice.

        Without ``store`` the machine goes down meanwhile, and all of it is lost.
        """

        def gather(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            batch = [*self.held, envelope]
            if self._random.random() < 0.3:
                batch.append(self._random.choice(batch))
            self._random.shuffle(batch)
            self.held.clear()
            branch = person.branch
            try:
                answers = branch.deliver_all([Incoming(IncomingKind.MAIL, one) for one in batch], store=store)
            except HostUnavailable:
                self.restart(branch)
                raise
            self.answers += [one for one in answers if isinstance(one, bytes)]
            self.counts["batched"] += len(batch)
            answer = answers[batch.index(envelope)]
            if isinstance(answer, PmapError):
                raise answer
            return answer

        person.interference = gather

    def rotate(self, branch: Branch, *, store: bool) -> None:
        """The enclave is started anew and changes its key; or goes down before the host has stored the new keyring."""
        try:
            rotated = branch.incarnate(rotate=True)
        except LimitExceeded:
            self.counts["rotation refused"] += 1
            return
        if store:
            self.replace(branch, rotated)
            self.counts["rotation"] += 1
        else:
            self.restart(branch)

    def lose(self, person: Person, times: int, *, reply: bool) -> None:
        """The next requests do not arrive, or their replies do not."""

        def lose(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            if times > 1:
                self.lose(person, times - 1, reply=reply)
            if reply:
                forward(envelope)
            raise HostUnavailable("lost")

        person.interference = lose

    def crash_before_storing(self, person: Person) -> None:
        """The machine goes down while the next request is processed; then the enclave is started again."""

        def crash(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            try:
                return person.branch.deliver(envelope, store=False)
            finally:
                self.restart(person.branch)

        person.interference = crash

    def restart(self, branch: Branch) -> None:
        """The enclave is started anew."""
        self.replace(branch, branch.incarnate())
        self.counts["restart"] += 1

    def replace(self, branch: Branch, by: Branch) -> None:
        """Let another incarnation serve in a branch's place."""
        self.branches[self.branches.index(branch)] = by
        for person in self.people:
            if person.branch is branch:
                person.branch = by

    def enrol_anew(self, person: Person, branch: Branch, sponsor: Person) -> None:
        """A client that gave up is followed by a new one, perhaps with an invite."""
        if person.client.verdict is None and not person.restored:
            person = next((one for one in self.people if one.client.verdict is not None), person)
        if person.client.verdict is None and not person.restored:
            return
        self._abandoned.update(person.open_mails.values())
        newcomer = Person(self, f"p{len(self.people_by_key)}", branch)
        self.people[self.people.index(person)] = newcomer
        self.counts["newcomer"] += 1
        if sponsor is not person and sponsor.client.verdict is None and sponsor.highest is not None:
            Invite.of(sponsor.state).accept(newcomer.state)

    # --- what only a malicious host does ---

    def roll_back(self, branch: Branch, commits: int) -> None:
        """Start on a state that is some commits older."""
        self._try(branch, branch.records[: max(1, len(branch.records) - commits)], branch.keyring, "rollback")

    def forget_alarm(self, branch: Branch) -> None:
        """A host that was caught puts back what it had before the alarm."""
        if branch.quarantined:
            self.roll_back(branch, 1)

    def old_keyring(self, branch: Branch, number: int, commits: int) -> None:
        """Start on a keyring of any time and branch, and perhaps on fewer records."""
        keyring = self.keyrings[number % len(self.keyrings)]
        self._try(branch, branch.records[: max(1, len(branch.records) - commits)], keyring, "keyring exchanged")

    def splice(self, branch: Branch, other: Branch, number: int) -> None:
        """Start on records some of which are another branch's."""
        shorter = min(len(branch.records), len(other.records))
        first = number % shorter
        last = first + 1 + number // shorter % (shorter - first)
        records = [*branch.records[:first], *other.records[first:last], *branch.records[last:]]
        self._try(branch, records, branch.keyring, "spliced")

    def _try(self, branch: Branch, records: list[bytes], keyring: bytes, what: str) -> None:
        """Start on this; what the enclave refuses to start on stays as it is."""
        try:
            self.replace(branch, branch.incarnate(records, keyring=keyring))
        except (CorruptedStore, RollbackDetected, ForkDetected) as error:
            self.counts[f"{what}, not started: {type(error).__name__}"] += 1
        else:
            self.counts[what] += 1

    def clone(self, branch: Branch, commits: int = 0) -> None:
        """A second enclave goes on from the same state, or an older one."""
        with suppress(RollbackDetected, CorruptedStore):  # to before a rotation of its key
            self.branches.append(branch.incarnate(branch.records[: max(1, len(branch.records) - commits)]))
            self.counts["clone"] += 1

    def lead(self, person: Person, branch: Branch) -> None:
        """Let a client talk to another branch."""
        person.branch = branch

    def race(self, person: Person, other: Person) -> None:
        """Clone, let somebody else go ahead on the clone, and lead the client to and fro while it sends."""
        here = person.branch
        place = self.branches.index(here)
        if here.quarantined or other is person or len(self.branches) > 4:
            return
        clone = here.incarnate()
        self.branches.append(clone)
        self.lead(other, clone)
        for _ in range(1 + self._random.randrange(3)):
            self.heartbeat(other, TOPICS[0])
        self.counts["race"] += 1
        self.send_at_once(person, "append", KEYS[0], [place, len(self.branches) - 1])

    def lose_outbox(self, branch: Branch) -> None:
        """Forget the waiting replies."""
        branch.outbox.clear()
        self.counts["outbox lost"] += 1

    def replay(self, branch: Branch, number: int) -> None:
        """Hand an old request to an enclave."""
        if self.requests:
            executed = branch.head.executed
            with suppress(PmapError):
                self.answers.append(branch.deliver(self.requests[number % len(self.requests)]))
            fresh = branch.head.executed - executed
            # A held request whose sender still waits may arrive late; whatever else is old must not be executed.
            waiting = {name for person in self.people for name in person.open_mails.values()}
            waiting |= self._abandoned
            assert fresh <= waiting, f"{fresh - waiting} was executed from a replayed request"
            self.counts["replay"] += 1

    def answer_with_old(self, person: Person, number: int) -> None:
        """Answer the next request with something old."""
        if self.answers:
            old = self.answers[number % len(self.answers)]
            person.interference = lambda envelope, forward: old

    def odd(self) -> bool:
        """A coin."""
        return self._random.random() < 0.5

    def stuff_poll(self, person: Person, number: int) -> None:
        """Put messages of any time, branch and client among those of the next poll."""
        if self.posted:
            person.extra_messages = [self._random.choice(self.posted) for _ in range(1 + number % 20)]
            person.extra_messages += self.posted[-3:]
            self.counts["poll stuffed"] += 1

    def mirror(self, person: Person, number: int, *, answer: int) -> None:
        """Show the next request to another branch as well, before or after; answer with what either says."""

        def mirror(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
            said: list[bytes | PmapError] = []
            other = self.branches[number % len(self.branches)]
            ways: list[Callable[[bytes], bytes]] = [forward, other.deliver]
            for way in ways if answer & 1 else reversed(ways):
                try:
                    said.append(way(envelope))
                except PmapError as error:
                    said.append(error)
            self.answers += [one for one in said if isinstance(one, bytes)]
            self.counts["mirrored"] += 1
            chosen = said[answer >> 1 & 1]
            if isinstance(chosen, PmapError):
                raise chosen
            return chosen

        person.interference = mirror

    def back_up(self, person: Person) -> None:
        """Somebody copies the client's state."""
        if person.file.saved is not None:
            copy = (person.file.saved, person.last, list(person.inbox), dict(person.open_mails))
            person.backups.append(copy)

    def restore_backup(self, person: Person) -> None:
        """Somebody puts an old copy of the client's state back."""
        if person.backups:
            self._abandoned.update(person.open_mails.values())
            saved, person.last, person.inbox, person.open_mails = person.backups.pop()
            person.inbox, person.open_mails = list(person.inbox), dict(person.open_mails)
            person.restored = True
            person.begin(ClientState.decode(saved))
            self.counts["client restored"] += 1

    # --- the oracle ---

    def finish(self) -> None:
        """At the end of an honest run: everything settles, everything was executed once, everybody agrees."""
        for person in self.people:
            person.interference = None
            self.settle(person)
            self.heartbeat(person, TOPICS[0])
        for person in self.people:
            self.poll(person)  # only now: what was settled may have sent mails
        if self.honest:
            head = self.branches[0].head
            assert head.executed == self._sent - self._failed, "every mail was executed"
            for person in self.people:
                assert person.open_mails == {} and person.client.verdict is None
                assert tuple(person.inbox) == head.inboxes.get(person.client.client_id, ())

    def _settle(self, person: Person, topic: str) -> None:
        """Settle what the client has open on a topic, and believe it about the mail that we know to be open."""
        pending = person.state.stream(topic).pending
        if pending is not None:
            operation = partial(person.client._session.resolve, topic)
            resolved = self._guarded(person, lambda: person.client._driver.operate(operation(), topic))
            if resolved is None:
                return
            if isinstance(resolved, Resolved):  # and not a heartbeat
                self._resolved(person, topic, resolved)
        if (name := person.open_mails.pop(topic, None)) is not None:
            # The client does not know of it: it died before it had written it down, so it never left.
            self._sent.discard(name)

    def _resolved(self, person: Person, topic: str, resolved: Resolved) -> None:
        name = resolved.body.decode().split(" ")[0]
        if person.open_mails.get(topic) == name:
            del person.open_mails[topic]
        else:
            # A power cut took back that it was settled before; it comes to the same again.
            assert name in person.accepted or name in self._failed or not self.honest
        if resolved.fate is Fate.EXECUTED and resolved.reply is not None:
            self._accepts_reply(person, name, resolved.reply.payload, resolved.reply.receipt.checkpoint)
        elif resolved.fate is Fate.FAILED:
            self._failed.add(name)
            if isinstance(resolved.error, MailFailed) and resolved.error.receipt.checkpoint is not None:
                self._accepts(person, resolved.error.receipt.checkpoint)
        else:
            assert not self.honest, f"{name} became {resolved.fate} with an honest host"
            self.counts[resolved.fate.value] += 1

    def _attempt(self, person: Person, topic: str, name: str, operation: Callable[[], Any]) -> None:
        reply = self._guarded(person, operation)
        if reply is _FAILED:
            del person.open_mails[topic]
            self._failed.add(name)
        elif reply is not None:
            del person.open_mails[topic]
            self._accepts_reply(person, name, reply.payload, reply.receipt.checkpoint)
        elif topic not in person.client._session.pending_topics:
            # Refused for good, so it was not executed by this handing-over and is given up.
            del person.open_mails[topic]
            self._sent.discard(name)

    def _guarded(self, person: Person, operation: Callable[[], Any]) -> Any:
        """Run an operation; None if it failed, ``_FAILED`` if its handler did. Verdicts are checked."""
        try:
            result = operation()
        except MailFailed as error:
            if error.receipt.checkpoint is not None:
                self._accepts(person, error.receipt.checkpoint)
            return _FAILED
        except FreshnessError as error:
            self._judge(person, error)
            return None
        except (OutcomeUnknown, HostUnavailable) as error:
            self.counts[type(error).__name__] += 1
            return None
        except PmapError as error:
            assert not self.honest, error
            self.counts[type(error).__name__] += 1
            return None
        return result if result is not None else ()

    def _accepts_reply(self, person: Person, name: str, payload: bytes | None, checkpoint: Checkpoint | None) -> None:
        assert checkpoint is not None
        node = self._accepts(person, checkpoint)
        assert node.results.get(name) == payload, f"{name} was not executed in commit {node.size} with this result"
        person.accepted.append(name)
        self.counts["accepted"] += 1

    def _accepts(self, person: Person, checkpoint: Checkpoint) -> Node:
        node = self._nodes.get((checkpoint.size, checkpoint.root))
        assert node is not None, "a checkpoint that no enclave made"
        last = person.last
        if last is not None and node.size > last.size:
            assert last.is_on_path_to(node), (
                f"{person.name} accepts commit {node.size}, which is not behind {last.size}"
            )
        elif last is not None:
            assert node.is_on_path_to(last), f"{person.name} accepts commit {node.size} of another history"
        if last is None or node.size > last.size:
            person.last = node
        return node

    def _judge(self, person: Person, error: FreshnessError) -> None:
        self.counts[type(error).__name__] += 1
        assert not self.honest, f"a false alarm: {error!r}"
        if not isinstance(error, RollbackDetected | ForkDetected) or error.alarm is None:
            if isinstance(error, ClientStale):
                assert person.restored or not self.honest
            return
        alarm = error.alarm
        verify_alarm(alarm, person.client.checkpoint_key)
        claimed = self._nodes[alarm.client.size, alarm.client.root]
        stood = self._nodes[alarm.enclave.size, alarm.enclave.root]
        assert not claimed.is_on_path_to(stood), "a verdict that is not true"


_FAILED = object()


def _effect(word: str, key: str, name: str) -> Callable[[dict[str, bytes]], bytes]:
    """What a mail must do to a plain dict, and answer."""

    def effect(values: dict[str, bytes]) -> bytes:
        match word:
            case "put":
                values[key] = name.encode()
                return b"put"
            case "append":
                values[key] = values.get(key, b"") + b"." + name.encode()
                return values[key]
            case "delete":
                return values.pop(key, b"none")
            case "mail":
                return b"mailed"
            case _:
                return values.get(key, b"none")

    return effect


__all__ = ["KEYS", "TOPICS", "World"]
