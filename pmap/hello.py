"""Hellos: a client agrees on a session with this epoch, shows its highest evidence, and is enrolled if it is new."""

from __future__ import annotations

from pmap.clients import ClientState, client_key
from pmap.quarantine import Quarantine
from pmap.refusals import REFUSED, Refusals
from pmap.runtime import Runtime
from pmap.sessions import Session
from wire.boundary import Rejection
from wire.checkpoint import encode_evidence
from wire.codec import pack
from wire.crypto import HmacKey
from wire.errors import LimitExceeded, NotEnrolled
from wire.hpke import MailKey
from wire.limits import MAX_CLIENTS
from wire.mail import Hello, Outcome, Reply, epoch_of_hello, open_hello, request_id, session_of


class Greeter:
    """Answers hellos."""

    __slots__ = ("_mail_key", "_quarantine", "_refusals", "_runtime")

    def __init__(self, runtime: Runtime, mail_key: MailKey, quarantine: Quarantine, refusals: Refusals) -> None:
        self._runtime = runtime
        self._mail_key = mail_key
        self._quarantine = quarantine
        self._refusals = refusals

    def receive(self, position: int, untrusted: bytes) -> None:
        """Process one hello. Raises :class:`Malformed` and :class:`wire.crypto.Unauthentic`: no answer is possible."""
        runtime = self._runtime
        if epoch_of_hello(untrusted) != runtime.log.epoch:
            runtime.turn.reject(position, Rejection.SESSION_UNKNOWN)
            return
        hello = open_hello(untrusted, self._mail_key, runtime.log.store_id)
        in_reply_to = request_id(untrusted)
        session = Session(session_of(untrusted), hello.client, HmacKey(hello.secret), hello.number, in_reply_to)
        try:
            self._quarantine.check()
            runtime.sessions.check_hello(session)
            client = self._admit(hello)
        except REFUSED as error:
            self._refusals.refuse(position, session, in_reply_to, "hello", hello.number, error)
            return
        runtime.sessions.open(session)
        payload = pack([client.inbox_acked, client.inbox_next])
        welcome = Reply(Outcome.WELCOME, "hello", hello.number, in_reply_to, None, 0, payload)
        runtime.turn.direct(position, session, welcome)
        with runtime.entries.transaction():
            for number, body in runtime.inbox.unacknowledged(hello.client, client):
                # The copies under the last session's key are of no use any more.
                runtime.turn.drops += runtime.inbox.placed(hello.client, number)
                runtime.send_now(session, number, body)
            runtime.acknowledge(hello.client, client, encode_evidence(hello.highest))
            client.issued = runtime.issue()
            runtime.save_client(hello.client, client)

    def _admit(self, hello: Hello) -> ClientState:
        """The client's state, after its evidence was accepted; a new one is enrolled."""
        runtime = self._runtime
        value = runtime.live.get(client_key(hello.client))
        client = ClientState() if value is None else ClientState.decode(value)
        runtime.check_highest(encode_evidence(hello.highest), hello.client, client, hello=True)
        if value is None:
            if runtime.enrolled >= MAX_CLIENTS:
                raise LimitExceeded(f"this enclave has {MAX_CLIENTS} clients, the most that it takes")
            if not self._admits(hello.client.hex()):
                raise NotEnrolled("this enclave does not admit this client")
            runtime.enrolled += 1
            runtime.stability.enrol(hello.client)
        return client

    def _admits(self, client: str) -> bool:
        """Ask the author's code, which may look at everything; whatever it writes or sends is undone."""
        runtime = self._runtime
        mark = runtime.turn.mark()
        runtime.entries.begin()
        try:
            return runtime.enclave.admit(client) is True
        except (Exception, SystemExit):
            # Whatever goes wrong there, nobody is let in by it.
            return False
        finally:
            runtime.entries.abort()
            runtime.turn.back_to(mark)
