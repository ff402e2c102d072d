"""Older code refuses newer state: the greatest security version that ever wrote a store stands in the store itself.

A TEE that seals to the signer gives the key to old code of that signer too, with whatever holes it had. So the state
carries a floor. It is an entry like any other: it stays in every window of records, it cannot be lowered without
rolling the whole state back, and a rollback is what clients' evidence shows. So code that went down and up again
finds either its own state or a proven rollback, never a state that the older code touched unseen.
"""

from __future__ import annotations

from typing import Final

from pmap.entries import META, Entries
from wire.codec import pack, unpack_authentic
from wire.errors import CorruptedStore, DowngradeRefused, Malformed

_FLOOR: Final = META + b"version floor"


def enforce_version_floor(entries: Entries, version: int) -> None:
    """Refuse code of a lower security version than the state's; a higher one's first commit raises the floor.

    Raises :class:`DowngradeRefused`.
    """
    floor = _floor(entries)
    if version < floor:
        raise DowngradeRefused(
            f"the state was written by code of security version {floor}, and this code's is {version}:"
            " start the newer code, or an enclave that is newer still"
        )
    if version > floor:
        with entries.transaction():
            entries.put(_FLOOR, pack(version))


def _floor(entries: Entries) -> int:
    value = entries.live.get(_FLOOR)
    if value is None:
        return 0
    try:
        floor = unpack_authentic(value)
    except Malformed as error:
        raise CorruptedStore("the state's version floor is of an unknown form") from error
    if type(floor) is not int:
        raise CorruptedStore("the state's version floor is of an unknown form")
    return floor
