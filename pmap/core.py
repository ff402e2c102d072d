"""The enclave's core, without I/O: a batch of untrusted bytes in, ordered effects out.

Every mail takes the same way: bounds, decryption (which binds it to session and epoch), evidence, sequence, and
only then the handler, in its own transaction. All mails of a batch share one commit (group commit); replies are
made after it, because they carry its checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pmap.clients import (
    UNRESOLVED,
    ClientState,
    Position,
    StreamState,
    client_key,
    clients,
    positions_issued_to,
    resolve,
    resolve_all,
    stream_key,
)
from pmap.enclave import Enclave, EnclaveSettings, Mail
from pmap.entries import CLIENTS, META
from pmap.freshness import Evidence, Ruling, rule_on_mail, rule_on_recover
from pmap.handler import run
from pmap.inbox import Inbox
from pmap.log import CommitLog
from pmap.map import PersistentMap
from pmap.sessions import Session, Sessions
from pmap.stability import Stability
from pmap.tee import Tee
from pmap.turn import Turn
from wire.alarm import Alarm, Verdict
from wire.attestation import Attestation
from wire.boundary import (
    Answer,
    AnswerKind,
    Delivery,
    Incoming,
    IncomingKind,
    ProofWanted,
    Rejection,
    StoredCommit,
)
from wire.checkpoint import Checkpoint
from wire.codec import pack
from wire.crypto import Randomness, Unauthentic
from wire.errors import (
    ClientStale,
    EvidenceUnproven,
    ForkDetected,
    FreshnessError,
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotEnrolled,
    PmapError,
    RollbackDetected,
)
from wire.hpke import MailKey
from wire.limits import (
    COMMIT_BYTES,
    MAX_CLIENTS,
    MAX_STREAMS_PER_CLIENT,
    MAX_UNPROVEN_CLAIMS,
)
from wire.mail import (
    EnvelopeKind,
    Hello,
    Outcome,
    Reply,
    Request,
    RequestKind,
    envelope_kind,
    epoch_of_hello,
    mail_digest,
    open_hello,
    open_request,
    reply_digest,
    request_id,
    session_of,
)
from wire.refusal import encode_refusal

_QUARANTINE: Final = META + b"quarantine"
_REFUSED: Final = (FreshnessError, NotEnrolled, LimitExceeded)


class EnclaveCore:
    """One epoch of one enclave."""

    def __init__(self, enclave: Enclave, log: CommitLog, tee: Tee, randomness: Randomness) -> None:
        """Take over a new or replayed log. Raises :class:`InvalidInput` for settings that make no sense."""
        self.settings = EnclaveSettings.of(type(enclave))
        self._enclave = enclave
        self._log = log
        self._entries = log.entries
        self._live = log.entries.live
        self._randomness = randomness
        self._padding = type(enclave).reply_padding
        self._persistent = self.settings.persistent
        self._mail_key = MailKey(enclave.mail_key, randomness)
        self._sessions = Sessions()
        self._evidence = Evidence(log.history, log.public_key)
        self._stability = Stability(self.settings.roster)
        self._unproven: set[int] = set()
        self._clients = 0
        self._number = 0
        self._turn = Turn()
        resolve_all(self._entries, log.history)
        self._load_clients()
        quarantine = self._live.get(_QUARANTINE)
        self.alarm: Alarm | None = None if quarantine is None else Alarm.decode(log.store_id, quarantine)
        self.map = PersistentMap(self._entries, self.settings.map_size)
        self._inbox = Inbox(self._entries)
        self._attest(tee)
        enclave._platform = self

    def _load_clients(self) -> None:
        acked = []
        for client, state in clients(self._entries):
            self._clients += 1
            self._stability.enrol(client)
            acked.append((client, state.acked.size))
        for client, size in acked:
            self._stability.acknowledge(client, size)

    def _attest(self, tee: Tee) -> None:
        log, roster = self._log, self.settings.roster.digest()
        unsigned = Attestation(
            log.store_id, log.epoch, self._mail_key.public, log.public_key, self._persistent, roster, tee.name, b""
        )
        evidence = tee.evidence(unsigned.report_data())
        self.attestation = Attestation(
            log.store_id, log.epoch, self._mail_key.public, log.public_key, self._persistent, roster, tee.name, evidence
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the newest commit."""
        return self._log.checkpoint

    # --- the host's commands -----------------------------------------------------------------------------

    def deliver(self, untrusted_batch: Sequence[Incoming]) -> list[Delivery]:
        """Process items in order. Almost always one delivery; more where the changes would outgrow a record."""
        deliveries = []
        for position, item in enumerate(untrusted_batch):
            if item.kind is IncomingKind.CALL:
                self._call(position, item.data)
            else:
                self._envelope(position, item.data)
            if self._entries.pending_bytes + self._turn.payload_bytes >= COMMIT_BYTES:
                deliveries.append(self._finish())
        deliveries.append(self._finish())
        return deliveries

    def genesis(self) -> Delivery:
        """The first record of a new store."""
        with self._entries.transaction():
            self._entries.put(META + b"created", b"\x01")
        self._turn.commits = True
        return self._finish()

    def learn(self, size: int, untrusted_root: bytes, to_size: int, untrusted_proof: list[bytes]) -> None:
        """The host answers a :class:`ProofWanted`: this history's root at ``size``, and the consistency proof from
        there to ``to_size``, a recent commit.

        Raises :class:`wire.errors.ProofInvalid`; sizes that nobody asked for are ignored.
        """
        if size in self._unproven:
            self._log.history.learn(size, untrusted_root, to_size, untrusted_proof)
            self._unproven.discard(size)

    # --- hello -------------------------------------------------------------------------------------------

    def _envelope(self, position: int, untrusted: bytes) -> None:
        try:
            kind = envelope_kind(untrusted)
            if kind is EnvelopeKind.HELLO:
                self._hello(position, untrusted)
            elif kind is EnvelopeKind.MAIL:
                self._mail(position, untrusted)
            else:
                self._turn.reject(position, Rejection.MALFORMED)
        except Malformed:
            self._turn.reject(position, Rejection.MALFORMED)
        except Unauthentic:
            self._turn.reject(position, Rejection.UNDECRYPTABLE)

    def _hello(self, position: int, untrusted: bytes) -> None:
        if epoch_of_hello(untrusted) != self._log.epoch:
            self._turn.reject(position, Rejection.SESSION_UNKNOWN)
            return
        hello = open_hello(untrusted, self._mail_key, self._log.store_id)
        in_reply_to = request_id(untrusted)
        session_id = session_of(untrusted)
        session = Session(session_id, hello.client, hello.secret, hello.number, in_reply_to)
        request = Request(RequestKind.HEARTBEAT, "hello", hello.number, None, hello.highest, 0, b"")
        try:
            self._check_quarantine()
            self._sessions.check_hello(session)
            client = self._admit(hello)
        except _REFUSED as error:
            self._refuse(position, session, in_reply_to, request, error)
            return
        self._sessions.open(session)
        payload = pack([client.inbox_acked, client.inbox_next])
        self._turn.direct(
            position, session, Reply(Outcome.WELCOME, "hello", hello.number, in_reply_to, None, 0, payload)
        )
        with self._entries.transaction():
            for number, body in self._inbox.unacknowledged(hello.client, client):
                # The copies under the last session's key are of no use any more.
                self._turn.drops += self._inbox.placed(hello.client, number)
                self._send_now(session, number, body)
            self._save_client(hello.client, client, hello.highest)

    def _admit(self, hello: Hello) -> ClientState:
        value = self._live.get(client_key(hello.client))
        client = ClientState() if value is None else ClientState.decode(value)
        self._evidence.check_highest(hello.highest, client, lambda: positions_issued_to(self._entries, hello.client))
        if value is None:
            if self._clients >= MAX_CLIENTS:
                raise LimitExceeded(f"this enclave has {MAX_CLIENTS} clients, the most that it takes")
            if not self._admits(hello.client.hex()):
                raise NotEnrolled("this enclave does not admit this client")
            self._clients += 1
            self._stability.enrol(hello.client)
        return client

    def _admits(self, client: str) -> bool:
        try:
            with self._entries.transaction():
                return self._enclave.admit(client) is True
        except Exception:
            # Whatever goes wrong in the author's code, nobody is let in by it.
            return False

    # --- mail --------------------------------------------------------------------------------------------

    def _mail(self, position: int, untrusted: bytes) -> None:
        session = self._sessions.find(session_of(untrusted))
        if session is None:
            self._turn.reject(position, Rejection.SESSION_UNKNOWN)
            return
        request = open_request(untrusted, session.secret, self._log.store_id)
        in_reply_to = request_id(untrusted)
        try:
            self._check_quarantine()
            client = ClientState.decode(self._live[client_key(session.client)])
            value = self._live.get(stream_key(session.client, request.topic))
            stream = StreamState() if value is None else StreamState.decode(value)
            digest = _digest_of(request)
            ruling = self._rule(session, request, client, stream, digest)
            if value is None and client.streams >= MAX_STREAMS_PER_CLIENT:
                raise LimitExceeded(f"a client has at most {MAX_STREAMS_PER_CLIENT} streams")
        except _REFUSED as error:
            self._refuse(position, session, in_reply_to, request, error)
            return
        if ruling is Ruling.REDELIVER:
            self._turn.redeliver(position, stream.reply_n, stream.reply_index)
        elif ruling is Ruling.TELL:
            self._tell(position, session, in_reply_to, request, stream)
        else:
            self._execute(position, session, in_reply_to, request, stream, digest, fence=ruling is Ruling.FENCE)

    def _execute(
        self,
        position: int,
        session: Session,
        in_reply_to: bytes,
        request: Request,
        stream: StreamState,
        digest: bytes,
        *,
        fence: bool,
    ) -> None:
        new = stream.next == 0
        if fence:
            outcome, payload = Outcome.FENCED, None
        elif request.kind is RequestKind.HEARTBEAT:
            outcome, payload = Outcome.HEARTBEAT, None
        else:
            mail = Mail(session.client.hex(), request.topic, request.sequence, request.body)
            outcome, payload = run(lambda: self._enclave.receive_mail(mail), self._entries, self._turn)
        evidence = request.evidence
        if stream.reply_n:
            # Its sender asks for the next thing: the last reply has arrived.
            self._turn.drops.append((stream.reply_n, stream.reply_index))
        if evidence is not None:
            stream.acked = Position(evidence.size, evidence.root)
        stream.issued = self._issue()
        stream.next = request.sequence + 1
        stream.outcome, stream.mail, stream.reply = outcome, digest, reply_digest(outcome, payload)
        reply = Reply(outcome, request.topic, request.sequence, in_reply_to, None, 0, payload)
        stream.reply_n = self._next_number()
        stream.reply_index = self._turn.boxed(position, session, reply)
        with self._entries.transaction():
            key = stream_key(session.client, request.topic)
            self._entries.put(key, stream.encode())
            self._turn.touched.append(key)
            # The handler may have sent this client a mail: its entry is read anew.
            client = ClientState.decode(self._live[client_key(session.client)])
            client.streams += new
            self._turn.drops += self._inbox.acknowledge(session.client, client, request.inbox_ack)
            self._save_client(session.client, client, request.highest, request.evidence)

    def _rule(
        self, session: Session, request: Request, client: ClientState, stream: StreamState, digest: bytes
    ) -> Ruling:
        self._evidence.check_highest(
            request.highest, client, lambda: positions_issued_to(self._entries, session.client)
        )
        latest = self._evidence.check_stream(request.evidence, stream)
        if not self._persistent:
            # Without checkpoints there is no evidence to tell by; within one epoch the number alone does.
            latest = request.sequence == stream.next
        if request.inbox_ack > client.inbox_next:
            raise ClientStale(f"inbox mail {request.inbox_ack - 1} is acknowledged but was never sent")
        if request.kind is RequestKind.RECOVER:
            return rule_on_recover(stream, latest, request.sequence, digest)
        return rule_on_mail(stream, latest, request.sequence, digest)

    def _tell(self, position: int, session: Session, in_reply_to: bytes, request: Request, stream: StreamState) -> None:
        """Answer a RECOVER with what became of the mail. It changes nothing and issues the very evidence that the
        mail's own reply carries, so it does not matter which of the two, or how many, reach the client."""
        outcome, payload = Outcome.FENCED, None
        if stream.outcome is not Outcome.FENCED:
            outcome, payload = Outcome.RECOVERED, pack([int(stream.outcome), stream.reply])
        reply = Reply(outcome, request.topic, request.sequence, in_reply_to, None, 0, payload)
        issued = stream.issued
        # A root that is not known yet is this commit's: the reply gets it like any other of the turn.
        if issued.root != UNRESOLVED:
            reply = reply._replace(checkpoint=self._log.sign(issued.size, issued.root))
        self._turn.direct(position, session, reply)

    # --- what handlers do ---------------------------------------------------------------------------------

    def send(self, recipient: str, body: bytes) -> None:
        """Part of :class:`pmap.enclave.Platform`: queue a mail to a client's inbox."""
        if not self._entries.in_transaction:
            raise InvalidInput("mail is sent from inside receive_mail")
        client = _public_key(recipient)
        value = self._live.get(client_key(client)) if client is not None else None
        if value is None or client is None:
            raise InvalidInput("the recipient is not a client of this enclave")
        state = ClientState.decode(value)
        number = self._inbox.add(client, state, body)
        session = self._sessions.of_client(client)
        if session is not None:
            self._send_now(session, number, body)

    def _send_now(self, session: Session, number: int, body: bytes) -> None:
        reply = Reply(Outcome.INBOX, "inbox", number, b"", None, 0, body)
        index = self._turn.boxed(None, session, reply)
        key = self._inbox.place(session.client, number, self._issue(), self._next_number(), index)
        self._turn.touched.append(key)

    def _call(self, position: int, data: bytes) -> None:
        if self.alarm is not None:
            text = "the store is quarantined: " + self.alarm.verdict.name
            self._turn.answers.append(Answer(position, AnswerKind.CALL_FAILED, data=text.encode()))
            return
        outcome, payload = run(lambda: self._enclave.receive_from_host(data), self._entries, self._turn)
        kind = AnswerKind.CALL_DONE if outcome is Outcome.EXECUTED else AnswerKind.CALL_FAILED
        self._turn.answers.append(Answer(position, kind, data=payload))
        self._turn.commits = True

    # --- refusals ----------------------------------------------------------------------------------------

    def _check_quarantine(self) -> None:
        alarm = self.alarm
        if alarm is not None:
            error = RollbackDetected if alarm.verdict is Verdict.ROLLBACK else ForkDetected
            raise error(
                f"the store is quarantined since a client proved a {alarm.verdict.name.lower()}: this enclave stood at"
                f" commit {alarm.enclave.size}, the proof is of commit {alarm.client.size}",
                alarm,
            )

    def _refuse(self, position: int, session: Session, in_reply_to: bytes, request: Request, error: PmapError) -> None:
        if isinstance(error, FreshnessError) and error.checkpoint is not None:
            if isinstance(error, EvidenceUnproven):
                self._want_proof(position, error.checkpoint)
            elif error.alarm is None:
                self._quarantine(error, error.checkpoint)
        payload = encode_refusal(error, self._log.checkpoint)
        reply = Reply(Outcome.REFUSED, request.topic, request.sequence, in_reply_to, None, 0, payload)
        self._turn.direct(position, session, reply)

    def _quarantine(self, error: FreshnessError, contradiction: Checkpoint) -> None:
        """Sound the alarm and write it down: it outlives the epoch, and nothing is executed from here on."""
        verdict = Verdict.ROLLBACK if isinstance(error, RollbackDetected) else Verdict.FORK
        error.alarm = self.alarm = self._log.sign_alarm(verdict, contradiction)
        with self._entries.transaction():
            self._entries.put(_QUARANTINE, self.alarm.encode())
        self._turn.commits = True

    def _want_proof(self, position: int, claim: Checkpoint) -> None:
        if len(self._unproven) < MAX_UNPROVEN_CLAIMS or claim.size in self._unproven:
            self._unproven.add(claim.size)
            self._turn.proofs.append(ProofWanted(position, claim.size))

    # --- commit ------------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        return self._log.n + 1 if self._persistent else self._number + 1

    def _issue(self) -> Position:
        """The checkpoint that this commit will give out; its root is filled in once it is known."""
        return Position(self._log.n + 1, UNRESOLVED) if self._persistent else Position()

    def _save_client(self, key: bytes, client: ClientState, *shown: Checkpoint | None) -> None:
        for evidence in shown:
            if evidence is not None and evidence.size > client.acked.size:
                client.acked = Position(evidence.size, evidence.root)
        client.issued = self._issue()
        self._stability.acknowledge(key, client.acked.size)
        self._entries.put(CLIENTS + key, client.encode())
        self._turn.touched.append(CLIENTS + key)
        self._turn.commits = True

    def _finish(self) -> Delivery:
        """Make the commit, if there is anything to commit, and the replies that carry its checkpoint."""
        turn, self._turn = self._turn, Turn()
        stored, checkpoint = None, None
        if turn.commits and self._persistent:
            commit = self._log.commit()
            checkpoint = self._log.checkpoint
            stored = StoredCommit(commit.n, commit.record, commit.leaf, commit.tail)
            for key in turn.touched:
                resolve(self._entries, key, commit.n, commit.root)
        elif turn.commits:
            self._entries.take_changes()
            self._number += 1
        number = self._log.n if self._persistent else self._number
        return turn.seal(number, stored, checkpoint, self._stability.size, self._randomness, self._padding)


def _digest_of(request: Request) -> bytes:
    if request.kind is RequestKind.RECOVER:
        if len(request.body) != len(UNRESOLVED):
            raise Malformed("a RECOVER names the mail by its 32-byte digest")
        return request.body
    return mail_digest(request.topic, request.sequence, request.body)


def _public_key(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError):
        return None
