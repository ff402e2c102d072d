"""Mails of open sessions: decrypt, check evidence and sequence, and only then execute.

The rules are in :mod:`pmap.freshness`; this is what is done about each ruling.
"""

from __future__ import annotations

from pmap.clients import UNRESOLVED, ClientState, StreamState, client_key, size_of, stream_key
from pmap.enclave import Mail
from pmap.freshness import Ruling, rule_on_mail, rule_on_recover
from pmap.handler import run
from pmap.quarantine import Quarantine
from pmap.refusals import REFUSED, Refusals
from pmap.runtime import Runtime
from pmap.sessions import Session
from wire.boundary import Rejection
from wire.checkpoint import POSITION_BYTES
from wire.codec import pack
from wire.crypto import HASH_BYTES, SALT_BYTES
from wire.errors import ClientStale, LimitExceeded, Malformed
from wire.limits import MAX_STREAMS_PER_CLIENT
from wire.mail import (
    Outcome,
    Reply,
    Request,
    RequestKind,
    open_request,
    reply_digest,
    request_id,
    session_of,
)


class Mailroom:
    """Processes mails."""

    __slots__ = ("_quarantine", "_refusals", "_runtime")

    def __init__(self, runtime: Runtime, quarantine: Quarantine, refusals: Refusals) -> None:
        self._runtime = runtime
        self._quarantine = quarantine
        self._refusals = refusals

    def receive(self, position: int, untrusted: bytes) -> None:
        """Process one mail. Raises :class:`Malformed` and :class:`wire.crypto.Unauthentic`: no answer is possible."""
        runtime = self._runtime
        session = runtime.sessions.find(session_of(untrusted))
        if session is None:
            runtime.turn.reject(position, Rejection.SESSION_UNKNOWN)
            return
        request = open_request(untrusted, session.secret)
        in_reply_to = request_id(untrusted)
        mail = _mail_named_by(request, in_reply_to)
        try:
            self._quarantine.check()
            client = ClientState.decode(runtime.live[client_key(session.client)])
            key = stream_key(session.client, request.topic)
            value = runtime.live.get(key)
            if value is None and client.streams >= MAX_STREAMS_PER_CLIENT:
                raise LimitExceeded(f"a client has at most {MAX_STREAMS_PER_CLIENT} streams")
            stream = StreamState() if value is None else StreamState.decode(value)
            ruling = self._rule(session, request, client, stream, mail)
        except REFUSED as error:
            self._refusals.refuse(position, session, in_reply_to, request.topic, request.sequence, error)
            return
        if ruling is Ruling.REDELIVER:
            runtime.turn.redeliver(position, stream.reply_n, stream.reply_index)
        elif ruling is Ruling.TELL:
            self._tell(position, session, in_reply_to, request, stream)
        else:
            outcome, payload = self._outcome(ruling, session, request)
            reply = Reply(outcome, request.topic, request.sequence, in_reply_to, None, 0, payload)
            self._record(position, session, request, key, stream, mail, reply)
            self._note_client(session, request, client, value is None)

    def _rule(
        self, session: Session, request: Request, client: ClientState, stream: StreamState, mail: bytes
    ) -> Ruling:
        """Everything that has to hold before anything is done. Raises what :mod:`pmap.freshness` says."""
        runtime = self._runtime
        # One stream's last evidence is mostly the highest as well, and then rule 1 says all that rule 2 would.
        if request.highest != request.evidence or not request.highest:
            runtime.check_highest(request.highest, session.client, client)
        latest = runtime.evidence.check_stream(request.evidence, stream)
        if not runtime.persistent:
            # Without checkpoints there is no evidence to tell by; within one epoch the number alone does.
            latest = request.sequence == stream.next
        if request.inbox_ack > client.inbox_next:
            raise ClientStale(f"inbox mail {request.inbox_ack - 1} is acknowledged but was never sent")
        if request.kind is RequestKind.RECOVER:
            return rule_on_recover(stream, latest, request.sequence, mail)
        return rule_on_mail(stream, latest, request.sequence, mail)

    def _outcome(self, ruling: Ruling, session: Session, request: Request) -> tuple[Outcome, bytes | None]:
        if ruling is Ruling.FENCE:
            return Outcome.FENCED, None
        if request.kind is RequestKind.HEARTBEAT:
            return Outcome.HEARTBEAT, None
        runtime = self._runtime
        mail = Mail(session.sender, request.topic, request.sequence, request.body)
        return run(runtime.enclave.receive_mail, mail, runtime.entries, runtime.turn)

    def _record(
        self,
        position: int,
        session: Session,
        request: Request,
        key: bytes,
        stream: StreamState,
        mail: bytes,
        reply: Reply,
    ) -> None:
        """Queue the reply and bring the stream's entry up to what was just done."""
        runtime = self._runtime
        turn = runtime.turn
        if stream.reply_n:
            # The sender goes on to the next thing: the last reply has arrived.
            turn.drops.append((stream.reply_n, stream.reply_index))
        if request.evidence:
            stream.acked = request.evidence[:POSITION_BYTES]
        stream.issued = runtime.issue()
        stream.next = request.sequence + 1
        stream.outcome, stream.mail = reply.outcome, mail
        stream.reply = reply_digest(reply.outcome, reply.payload)
        stream.reply_n, stream.reply_index = turn.number, turn.boxed(position, session, reply)
        runtime.entries.begin(single=True)
        runtime.entries.put(key, stream.encode())
        runtime.entries.commit()
        turn.touched.append(key)
        turn.commits = True

    def _note_client(self, session: Session, request: Request, client: ClientState, new_stream: bool) -> None:
        """Bring the client's entry up to what the mail said, where the stream's does not say it already."""
        runtime = self._runtime
        shown = highest = size_of(request.highest)
        if request.evidence != request.highest:
            shown = size_of(request.evidence)
        runtime.stability.acknowledge(session.client, max(shown, highest))
        if not new_stream and request.inbox_ack <= client.inbox_acked and highest <= max(shown, size_of(client.acked)):
            return
        # The handler may have sent this client a mail: its entry is read anew.
        client = ClientState.decode(runtime.live[client_key(session.client)])
        client.streams += new_stream
        with runtime.entries.transaction():
            runtime.turn.drops += runtime.inbox.acknowledge(session.client, client, request.inbox_ack)
            runtime.acknowledge(session.client, client, request.highest)
            runtime.save_client(session.client, client)

    def _tell(self, position: int, session: Session, in_reply_to: bytes, request: Request, stream: StreamState) -> None:
        """Answer a RECOVER with what became of the mail. It changes nothing and issues the very evidence that the
        mail's own reply carries, so it does not matter which of the two, or how many, reach the client."""
        outcome, payload = Outcome.FENCED, None
        if stream.outcome is not Outcome.FENCED:
            outcome, payload = Outcome.RECOVERED, pack([int(stream.outcome), stream.reply])
        reply = Reply(outcome, request.topic, request.sequence, in_reply_to, None, 0, payload)
        issued = stream.issued
        # A root that is not known yet is this commit's: the reply gets it like any other of the turn.
        if not issued.endswith(UNRESOLVED):
            signed = self._runtime.log.sign(size_of(issued), issued[POSITION_BYTES - HASH_BYTES :])
            reply = reply._replace(checkpoint=signed)
        self._runtime.turn.direct(position, session, reply)


def _mail_named_by(request: Request, own_id: bytes) -> bytes:
    """The id of the mail that is to be executed or told of: its own, but for a RECOVER."""
    if request.kind is not RequestKind.RECOVER:
        return own_id
    if len(request.body) != SALT_BYTES:
        raise Malformed("a RECOVER names the mail by its 32-byte id")
    return request.body
