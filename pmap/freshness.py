"""Every freshness rule, in one place, without I/O: may this mail be executed?

The enclave cannot tell from the host's records whether they are the newest ones. Clients can: each mail
carries, encrypted, the **evidence** its sender holds: the signed checkpoint of the last reply it accepted on
this stream, and the highest one it holds over all its streams. The rules, in the order in which they are
applied (any failure: not executed):

1. *Evidence of the stream* must be the latest checkpoint issued on the stream; the one before it (or none, if
   there is no such) is let through to rule 3, where it suffices for a duplicate or a RECOVER only.
2. *Highest evidence* must be one that was issued to this client, or lie in this history; in a hello, moreover, not
   below what the client has shown before. (Mails of one client's streams may overtake each other.)
   Evidence that fails 1 or 2 is judged by what it proves:
   a. not signed by this store's key: :class:`EvidenceInvalid`, the client's fault, no alarm;
   b. signed, of more records than this history has: :class:`RollbackDetected`;
   c. signed, of a size whose root here is another: :class:`ForkDetected`;
   d. signed and in this history, but old: :class:`ClientStale`, no alarm;
   e. signed, of a size whose root is not known here (yet): :class:`EvidenceUnproven`.
   b and c quarantine the store.
3. *Sequence*: the next number executes; the last one again, same mail and old evidence, is a duplicate
   (redeliver); another mail of the last number is :class:`ClientStale`; an older one is :class:`ReplayRefused`;
   one beyond is :class:`GapRefused`.
4. RECOVER of the last number tells its outcome, of the next number fences it, of any other is refused as in 3.
   Telling changes nothing and gives the same evidence each time, so a RECOVER may be repeated and replayed.

Every mail is bound to the epoch by its session's key before these rules see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from pmap.clients import NOWHERE, UNRESOLVED, ClientState, StreamState, size_of
from pmap.history import History
from wire.checkpoint import POSITION_BYTES, decode_evidence, verify_checkpoint
from wire.errors import (
    ClientStale,
    EvidenceUnproven,
    ForkDetected,
    GapRefused,
    ReplayRefused,
    RollbackDetected,
)
from wire.mail import MAX_COUNTER, Outcome


class Ruling(Enum):
    """What may be done with a mail that the evidence does not speak against."""

    EXECUTE = "execute"
    REDELIVER = "redeliver"
    """It was executed and its reply is not known to have arrived."""
    TELL = "tell"
    """Answer a RECOVER with what became of the mail; nothing changes."""
    FENCE = "fence"
    """Answer a RECOVER by making sure that the mail is never executed."""


class Evidence:
    """One mail's evidence, judged against one state of the enclave.

    A ``claim`` is evidence as it travels. It starts with the position that it is of, so what was issued before is
    recognised by these 40 bytes, and needs no signature then; only what is not is taken apart and judged.
    """

    __slots__ = ("_history", "_public_key", "_store_id")

    def __init__(self, history: History, store_id: bytes, public_key: bytes) -> None:
        self._history = history
        self._store_id = store_id
        self._public_key = public_key

    def check_highest(
        self,
        claim: bytes,
        client: ClientState,
        issued_to: Callable[[], Iterable[bytes]],
        *,
        hello: bool,
    ) -> None:
        """Rule 2. ``issued_to`` lists, slowly, every position issued to the client; in a hello, and where nothing is
        claimed, ``client.acked`` has to be the largest evidence that it ever showed."""
        if not (_matches(claim, client.issued) or _matches(claim, client.acked)):
            if not claim:
                raise ClientStale("the client shows no evidence although it was given some: it lost its state")
            if not self._remembers(claim) and not any(_matches(claim, position) for position in issued_to()):
                self._judge(claim)
        if hello and size_of(claim) < size_of(client.acked):
            raise ClientStale(
                f"the client's highest evidence is of commit {size_of(claim)}, but it showed {size_of(client.acked)}"
                " before: its state was restored from a backup, or two devices share it"
            )

    def _remembers(self, claim: bytes) -> bool:
        """Whether the claim is a point of this history that is at hand."""
        return self._history.recent_root(size_of(claim)) == claim[8:POSITION_BYTES]

    def check_stream(self, claim: bytes, stream: StreamState) -> bool:
        """Rule 1: whether the evidence is the latest (True) or the one before it (False)."""
        if _matches(claim, stream.issued):
            return True
        if _matches(claim, stream.acked):
            return False
        if not claim:
            raise ClientStale("the client shows no evidence although it was given some: it lost its state")
        self._judge(claim)
        raise ClientStale(
            "the stream's evidence is in this history but is not the latest issued:"
            " the client's state was restored from a backup, or two devices share it"
        )

    def _judge(self, claim: bytes) -> None:
        """Rules 2a, 2b, 2c, 2e; returns for evidence that is in this history."""
        claimed = decode_evidence(self._store_id, claim)
        assert claimed is not None
        verify_checkpoint(claimed, self._public_key)
        history = self._history
        if claimed.size > history.n:
            raise RollbackDetected(
                f"the client holds this store's checkpoint of commit {claimed.size},"
                f" but the host runs the enclave on commit {history.n}",
                checkpoint=claimed,
            )
        root = history.root_at(claimed.size)
        if root is None:
            raise EvidenceUnproven(
                f"nobody has shown how commit {claimed.size} belongs to this history", checkpoint=claimed
            )
        if root != claimed.root:
            raise ForkDetected(
                f"the client holds this store's checkpoint of commit {claimed.size}"
                " with another root than this history has there",
                checkpoint=claimed,
            )


def rule_on_mail(stream: StreamState, latest: bool, sequence: int, mail: bytes) -> Ruling:
    """Rule 3 for a mail (or heartbeat) with this sequence number and id."""
    if sequence == stream.next and sequence < MAX_COUNTER:
        if latest:
            return Ruling.EXECUTE
        raise ClientStale("the client sends its next mail without the last reply's evidence: its state is old")
    if sequence == stream.next - 1 and not latest and stream.outcome is not Outcome.FENCED:
        if mail == stream.mail:
            return Ruling.REDELIVER
        raise ClientStale(f"another mail was sent as number {sequence} before: the client's state is old, or shared")
    _refuse_number(stream, sequence)
    if stream.outcome is Outcome.FENCED:
        raise ReplayRefused(f"mail {sequence} was fenced: its sender asked that it never be executed")
    raise ReplayRefused(f"mail {sequence} was processed and its reply acknowledged")


def rule_on_recover(stream: StreamState, latest: bool, sequence: int, mail: bytes) -> Ruling:
    """Rule 4 for a RECOVER of the mail with this sequence number and id."""
    if sequence == stream.next and sequence < MAX_COUNTER:
        if latest:
            return Ruling.FENCE
        raise ClientStale("the client recovers its next mail without the last reply's evidence: its state is old")
    if sequence == stream.next - 1 and mail == stream.mail:
        return Ruling.TELL
    _refuse_number(stream, sequence)
    raise ClientStale(f"another mail was sent as number {sequence} before: the client's state is old, or shared")


def _refuse_number(stream: StreamState, sequence: int) -> None:
    if sequence > stream.next:
        raise GapRefused(f"mail {sequence} came where {stream.next} is next")
    if sequence < stream.next - 1:
        raise ReplayRefused(f"mail {sequence} was processed before; {stream.next} is next")


def _matches(claim: bytes, position: bytes) -> bool:
    if not claim:
        return position == NOWHERE
    # A position whose root is still open was issued in this very batch: nobody can hold its checkpoint yet.
    return claim[:POSITION_BYTES] == position and not position.endswith(UNRESOLVED)
