"""Comparing evidence with somebody else: what finds a fork whose two sides the host keeps apart.

Two checkpoints of one size agree or prove a fork by themselves. For two sizes the host must show, by a consistency
proof (RFC 9162), that the larger tree begins with the smaller one.
"""

from __future__ import annotations

from client.acceptance import pin_of, raise_highest
from client.effects import FetchConsistency, Save, Steps
from client.session import Session
from client.state import StickyVerdict
from wire.alarm import Verdict, proves_fork
from wire.checkpoint import Checkpoint, parse_note, verify_checkpoint
from wire.errors import EvidenceInvalid, EvidenceUnproven, ForkDetected, InvalidInput, PmapError, ProofInvalid
from wire.merkle import verify_consistency


def compare(session: Session, other: Checkpoint | str) -> Steps[None]:
    """Check that somebody else's checkpoint, or its signed note, is of the history that this client was shown.

    One that is, and is later than this client's own, is evidence of this client from then on.

    Raises:
        ForkDetected: it is of another history. With the same size that is proved by the two checkpoints (the error's
            and the client's highest) and stays; with another size, the host's proof did not hold.
        EvidenceUnproven: the host gave no proof.
        EvidenceInvalid: it is of another store, or not signed by this one.
        Malformed: the text is no checkpoint's note.
    """
    yield from session.open()
    state = session.state
    pin = pin_of(state)
    if state.highest is None:
        raise InvalidInput("this enclave keeps no state: there are no checkpoints to compare")
    theirs = parse_note(other, pin.checkpoint_key) if isinstance(other, str) else other
    if theirs.store_id != pin.store_id:
        raise EvidenceInvalid("the checkpoint is of another store")
    verify_checkpoint(theirs, pin.checkpoint_key)
    compared: Checkpoint | None = None
    # Again where another stream has learnt more meanwhile: it may be of another fork than theirs.
    while state.highest != compared:
        compared = state.highest
        assert compared is not None, "evidence is never forgotten"
        yield from _compare(session, compared, theirs)
    raise_highest(state, theirs)
    yield Save(durable=False)


def _compare(session: Session, ours: Checkpoint, theirs: Checkpoint) -> Steps[None]:
    if theirs.size == ours.size:
        if theirs.root != ours.root:
            state = session.state
            proves_fork(ours, theirs, pin_of(state).checkpoint_key)
            text = f"the host runs this store on two histories: both have {ours.size} commits, with different roots"
            state.verdict = StickyVerdict(Verdict.FORK, text, None, theirs)
            yield Save(durable=True)
            raise state.verdict.error()
        return
    first, second = sorted((ours, theirs), key=lambda checkpoint: checkpoint.size)
    if first.size == 0:
        return  # every history begins with the empty one
    try:
        untrusted_proof = yield FetchConsistency(first.size, second.size)
    except PmapError as error:
        raise EvidenceUnproven(
            f"the host does not show that commits {first.size} and {second.size} are of one history: {error}",
            checkpoint=theirs,
        ) from error
    try:
        verify_consistency(first.size, first.root, second.size, second.root, untrusted_proof)
    except ProofInvalid as error:
        raise ForkDetected(
            f"the host cannot show that commits {first.size} and {second.size} are of one history: {error}",
            checkpoint=theirs,
        ) from error
