"""From what a user names to a session and its state file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from client.constraint import Constraint
from client.endorsements import NO_ENDORSEMENTS, EndorsementsFrom, read_endorsements
from client.invite import Invite
from client.session import Session
from client.state import ClientState
from client.state_file import StateFile
from wire.crypto import system_randomness
from wire.errors import InvalidInput
from wire.padding import Padding


def open_session(
    constraint: str | Constraint,
    state: str | PathLike[str] | None,
    state_key: bytes | None,
    invite: str | None,
    delays: Sequence[float],
    padding: Padding,
    endorsements: EndorsementsFrom = NO_ENDORSEMENTS,
    *,
    sync_receipts: bool = True,
) -> tuple[Session, StateFile | None]:
    """The session, and the file that its state is to be saved in (None: nowhere).

    Raises :class:`InvalidInput`, :class:`StoreReplaced`, and what :class:`StateFile` raises.
    """
    parsed = Constraint.parse(constraint) if isinstance(constraint, str) else constraint
    read_endorsements(endorsements)  # what is wrong with them is said before anything is made
    parsed_invite = None if invite is None else Invite.parse(invite)
    file = None
    if state is not None:
        file = StateFile.open(state, state_key, sync_receipts=sync_receipts)
    elif state_key is not None:
        raise InvalidInput("state_key is the key of a state file: name the file with state")
    try:
        saved = None if file is None else file.read()
        client_state = ClientState.new(system_randomness) if saved is None else ClientState.decode(saved)
        if parsed_invite is not None:
            parsed_invite.accept(client_state)
        return Session(client_state, parsed, delays=delays, padding=padding, endorsements=endorsements), file
    except BaseException:
        if file is not None:
            file.close()
        raise
