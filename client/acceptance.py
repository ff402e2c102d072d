"""Every rule by which a client believes what a host hands it, in one place, without I/O.

1. An answer opens with the secret of the session that its mail was sealed for: nobody but the attested enclave made it.
2. It names the very envelope that it answers. So an old reply, the same reply again, and the reply to somebody
   else's mail are no answer.
3. Its topic, number and kind are those of the mail.
4. An enclave that keeps state answers with a checkpoint. It is later than the evidence of its stream, and
   agrees with the highest checkpoint of its size. (Its signature is checked where it travels on alone: in a
   welcome, an invite, a comparison. In a reply the enclave itself vouches for it.)
5. A reply that is fetched after a RECOVER has the digest that the enclave named.
6. Mails to the inbox are taken in the order of their numbers, each once; what comes after a missing one waits.
7. An alarm is believed if it verifies with the pinned key; one that does not is left out of the error.

What fails 1 to 3 is no answer at all (:class:`Malformed`, :class:`ReplayRefused`): the mail's outcome stays open.
"""

from __future__ import annotations

from collections.abc import Iterable

from client.reply import InboxMail, Receipt
from client.state import ClientState, Pending, Pin, SessionKeys, StickyVerdict, Stream
from wire.alarm import Verdict, verify_alarm
from wire.checkpoint import Checkpoint
from wire.codec import expect, unpack
from wire.crypto import HASH_BYTES, Unauthentic
from wire.errors import (
    ClientStale,
    EvidenceInvalid,
    ForkDetected,
    FreshnessError,
    Malformed,
    PmapError,
    ReplayRefused,
    RollbackDetected,
)
from wire.limits import MAX_INBOX_MAILS
from wire.mail import Outcome, Reply, Request, RequestKind, open_reply, reply_digest
from wire.refusal import decode_refusal

_MAX_SMALL_PAYLOAD_BYTES = 256
_EXPECTED = {
    RequestKind.MAIL: (Outcome.EXECUTED, Outcome.HANDLER_FAILED, Outcome.REFUSED),
    RequestKind.HEARTBEAT: (Outcome.HEARTBEAT, Outcome.REFUSED),
    RequestKind.RECOVER: (Outcome.RECOVERED, Outcome.FENCED, Outcome.REFUSED),
}


def open_answer(untrusted: bytes, keys: SessionKeys, pin: Pin, request: bytes) -> Reply:
    """Rules 1 and 2; ``request`` is the envelope's id. Raises :class:`Malformed` and :class:`ReplayRefused`."""
    try:
        reply = open_reply(untrusted, keys.secret, pin.store_id)
    except Unauthentic as error:
        raise Malformed("the host's answer was not made by the enclave for this session") from error
    if reply.in_reply_to != request:
        raise ReplayRefused("the host answered with what the enclave said to another mail")
    return reply


def check_answer(reply: Reply, request: Request, stream: Stream, state: ClientState) -> None:
    """Rules 3 and 4. Raises :class:`Malformed`, :class:`RollbackDetected` and :class:`ForkDetected`."""
    if not _fits(reply, request):
        raise Malformed("the enclave answered something that does not fit the mail")
    if reply.outcome is not Outcome.REFUSED:
        check_checkpoint(reply, stream.evidence, state)


def _fits(reply: Reply, request: Request) -> bool:
    place = (request.topic, request.sequence)
    return reply.outcome in _EXPECTED[request.kind] and (reply.topic, reply.sequence) == place


def check_checkpoint(reply: Reply, evidence: Checkpoint | None, state: ClientState) -> None:
    """Rule 4. Raises :class:`Malformed`, :class:`RollbackDetected` and :class:`ForkDetected`."""
    checkpoint = reply.checkpoint
    if (checkpoint is not None) is not pin_of(state).persistent:
        raise Malformed("an enclave that keeps state answers with a checkpoint, and no other does")
    if checkpoint is None:
        return
    if evidence is not None and checkpoint.size <= evidence.size:
        raise RollbackDetected(
            f"a reply of commit {checkpoint.size} came where one of commit {evidence.size} was accepted before",
            checkpoint=evidence,
        )
    highest = state.highest
    if highest is not None and highest.size == checkpoint.size and highest.root != checkpoint.root:
        raise ForkDetected(f"there are two histories with {checkpoint.size} commits", checkpoint=checkpoint)


def raise_highest(state: ClientState, checkpoint: Checkpoint | None) -> None:
    """Remember the highest of the accepted checkpoints."""
    if checkpoint is not None and (state.highest is None or checkpoint.size > state.highest.size):
        state.highest = checkpoint


def accept(state: ClientState, stream: Stream, pending: Pending, checkpoint: Checkpoint | None) -> None:
    """The outcome of the stream's pending mail is settled by an answer that was checked."""
    stream.pending = None
    stream.evidence = checkpoint
    raise_highest(state, checkpoint)
    session = state.session
    restarted = session is not None and session.epoch != pending.keys.epoch
    # Where nothing persists, a new epoch counts from 0 again.
    stream.sequence = 0 if restarted and not pin_of(state).persistent else pending.request.sequence + 1


def receipt_of(reply: Reply) -> Receipt:
    """What the user gets to keep of a reply."""
    return Receipt(0 if reply.checkpoint is None else reply.checkpoint.size, reply.stable, reply.checkpoint)


def pin_of(state: ClientState) -> Pin:
    """The pin; there is one before the first mail."""
    assert state.pin is not None, "the store is pinned at the first contact"
    return state.pin


# --- welcome, recovery ---------------------------------------------------------------------------------


def accept_welcome(state: ClientState, reply: Reply) -> None:
    """Take a checked welcome's inbox counters.

    Raises :class:`Malformed`, and :class:`ClientStale` where the enclave has seen mails acknowledged that this state
    does not know of.
    """
    acked, following = expect(unpack(reply.payload or b"", _MAX_SMALL_PAYLOAD_BYTES), int, int)
    if acked > state.inbox_next:
        raise ClientStale(
            f"inbox mail {acked - 1} was acknowledged before, and this state has not seen it:"
            " it was restored from a backup, or two devices share it"
        )
    state.inbox_announced = following


def decode_recovered(reply: Reply) -> tuple[Outcome, bytes]:
    """What a RECOVERED answer says: how the mail ended, and its reply's digest. Raises :class:`Malformed`."""
    number, digest = expect(unpack(reply.payload or b"", _MAX_SMALL_PAYLOAD_BYTES), int, bytes)
    outcomes = {int(one): one for one in (Outcome.EXECUTED, Outcome.HANDLER_FAILED, Outcome.HEARTBEAT)}
    if number not in outcomes or len(digest) != HASH_BYTES:
        raise Malformed("the enclave recovered a mail to something that it cannot have become")
    return outcomes[number], digest


def find_reply(
    untrusted_messages: Iterable[bytes], pending: Pending, pin: Pin, digest: bytes | None = None
) -> Reply | None:
    """The reply to a pending mail among what waited at its session's address. Rules 1, 2, 3 and 5."""
    for untrusted in untrusted_messages:
        try:
            reply = open_answer(untrusted, pending.keys, pin, pending.id)
        except (Malformed, ReplayRefused):
            continue
        if reply.outcome is Outcome.REFUSED or not _fits(reply, pending.request):
            continue
        if digest in (None, reply_digest(reply.outcome, reply.payload)):
            return reply
    return None


# --- inbox ---------------------------------------------------------------------------------------------


def take_inbox(state: ClientState, keys: SessionKeys, untrusted_messages: Iterable[bytes]) -> int:
    """Rule 6. Returns how many new mails were taken; raises nothing."""
    waiting: dict[int, Reply] = {}
    for untrusted in untrusted_messages:
        try:
            reply = open_reply(untrusted, keys.secret, pin_of(state).store_id)
        except (Malformed, Unauthentic):
            continue
        if reply.outcome is Outcome.INBOX:
            waiting[reply.sequence] = reply
    taken = 0
    while len(state.inbox) < MAX_INBOX_MAILS and (mail := waiting.get(state.inbox_next)) is not None:
        state.inbox.append(InboxMail(mail.sequence, mail.payload or b""))
        state.inbox_next += 1
        raise_highest(state, mail.checkpoint)
        taken += 1
    if waiting:
        state.inbox_announced = max(state.inbox_announced, max(waiting) + 1)
    return taken


# --- refusals ------------------------------------------------------------------------------------------


def refusal_of(state: ClientState, reply: Reply) -> PmapError:
    """The error that a refusal says, its alarm verified (rule 7); rollback and fork are remembered with it.

    Raises :class:`Malformed`.
    """
    pin = pin_of(state)
    error = decode_refusal(reply.payload or b"", pin.store_id)
    if isinstance(error, FreshnessError) and error.alarm is not None:
        try:
            verify_alarm(error.alarm, pin.checkpoint_key)
        except EvidenceInvalid:
            error.alarm = None
        else:
            verdict = error.alarm.verdict
            if isinstance(error, RollbackDetected if verdict is Verdict.ROLLBACK else ForkDetected):
                state.verdict = StickyVerdict(verdict, str(error), error.alarm, None)
    return error
