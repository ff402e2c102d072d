"""Rotating a store's key: how keyring and state are kept to each other over crashes and rollbacks of either.

A rotation happens at a start. It has two steps, in this order: the host puts the new keyring in the old one's place;
then the first record under the new generation is stored, and with it an entry that names the generation. At a start,
keyring and entry are compared:

============================  ========================================================================
the entry's generation is     then
============================  ========================================================================
the keyring's newest          all is well
older, and the history is     the rotation was cut off between its two steps: it goes on
the one that it began on
older, and the history ends   the host put the records back to before the rotation: RollbackDetected
before that
older, otherwise              the host went on from before the rotation: ForkDetected
newer                         the host put the keyring back; the records do not even decrypt
============================  ========================================================================
"""

from __future__ import annotations

from typing import Final

from pmap.entries import META, Entries
from pmap.keyring import Keyring
from wire.codec import pack
from wire.errors import ForkDetected, RollbackDetected

_GENERATION: Final = META + b"key generation"


def check_generation(entries: Entries, keyring: Keyring, commit: int, root: bytes) -> None:
    """Compare a replayed state, which ends at ``commit`` with ``root``, with its keyring.

    Raises :class:`RollbackDetected` and :class:`ForkDetected`, as the module says.
    """
    newest = keyring.generations[-1]
    if newest.number == 0 or entries.live.get(_GENERATION) == pack(newest.number):
        return
    if commit < newest.commit:
        raise RollbackDetected(
            f"the store's keys were rotated at commit {newest.commit}, but its records end at {commit}"
        )
    if (commit, root) != (newest.commit, newest.root):
        raise ForkDetected(
            f"the store's keys were rotated at commit {newest.commit}, but its records go on as if they had not been"
        )


def note_generation(entries: Entries, keyring: Keyring) -> None:
    """Have the next record name the keyring's newest generation, if the state does not do so yet."""
    value = pack(keyring.generations[-1].number)
    if keyring.generations[-1].number and entries.live.get(_GENERATION) != value:
        with entries.transaction():
            entries.put(_GENERATION, value)
