"""Opening a log: its format, the newest index, and the entries behind it."""

from __future__ import annotations

from typing import Final

from host_store.stores.entry import decode_entry
from host_store.stores.objects import Objects
from host_store.stores.state import LogState
from host_store.stores.tiles import TileName
from wire.errors import CorruptedStore, InvalidInput, StoreMissing, UnsupportedVersion

FORMAT_NAME: Final = "format"
FORMAT: Final = b"pmap-log/1"
RESTORING: Final = b"\x00pmap-restore"
"""What stands at the format's place while ``pmap restore`` is at work."""
LOG: Final = "log/"
INDEX: Final = "index/"
_LOAD_ATTEMPTS: Final = 5
"""Another host may collect what we are about to read; then there is a newer index."""
_MAX_FORMAT_BYTES: Final = 64


def entry_name(position: int) -> str:
    """The object that holds an entry. Names are in the order of their numbers."""
    return f"{LOG}{position:020d}"


def index_name(position: int) -> str:
    """The index over all entries up to ``position``."""
    return f"{INDEX}{position:020d}"


def tile_name(tile: TileName) -> str:
    """Where a tile is."""
    return f"tile/{tile.level:02d}/{tile.number:020d}"


def half_restored(where: str) -> CorruptedStore:
    """The error of whoever finds a restore that has not come to its end."""
    return CorruptedStore(f"the store in {where} was restored in part only: run 'pmap restore' once more")


def check_format(objects: Objects, *, create: bool) -> None:
    """See that a log of this format is there; begin one, if ``create`` is set.

    Raises:
        StoreMissing: there is none, and ``create`` is not set.
        UnsupportedVersion: it has another format.
        CorruptedStore: a restore of it has not come to its end.
        InvalidInput: the engine does not keep two from creating one object.
    """
    where = objects.engine.where
    found = objects.get(FORMAT_NAME)
    if found is not None and found[0] == RESTORING[1:]:
        raise half_restored(where)
    if found is None and not create:
        raise StoreMissing(f"there is no store in {where}")
    if found is not None and found[0] != FORMAT:
        said = found[0][:_MAX_FORMAT_BYTES].decode("ascii", "replace")
        raise UnsupportedVersion(
            f"the store in {where} has the format {said!r}, and this program knows {FORMAT.decode()!r} only:"
            " a newer version of pmap has written it"
        )
    if create:
        # Once more where it is there: an engine that overwrites it would let two hosts write one entry.
        objects.create(FORMAT_NAME, FORMAT)
        if objects.create(FORMAT_NAME, FORMAT) is not None:
            raise InvalidInput(
                f"{where} does not refuse to create an object that exists (If-None-Match): two hosts could fork the"
                " store unnoticed; use an engine that does"
            )


def load(objects: Objects) -> LogState:
    """The state at the log's end, as it is now. Raises :class:`CorruptedStore` and :class:`UnsupportedVersion`."""
    gap: CorruptedStore | None = None
    for _attempt in range(_LOAD_ATTEMPTS):
        try:
            state = _newest_index(objects)
            if state is not None:
                _replay(objects, state)
                return state
        except CorruptedStore as error:
            gap = error
    raise gap or CorruptedStore(f"the indexes of the log in {objects.engine.where} vanish while they are read")


def _newest_index(objects: Objects) -> LogState | None:
    newest = max(objects.names(INDEX), default=None)
    if newest is None:
        return LogState()
    found = objects.get(newest)
    return None if found is None else LogState.decode(found[0], f"the {newest} in {objects.engine.where}")


def _replay(objects: Objects, state: LogState) -> None:
    """Apply what is behind the index. Raises :class:`CorruptedStore` where something is missing."""
    where = objects.engine.where
    names = list(objects.names(LOG, entry_name(state.position)))
    for name, found in zip(names, objects.get_all(names), strict=True):
        expected = entry_name(state.position + 1)
        if name != expected or found is None:
            raise CorruptedStore(f"the log in {where} lacks the entry {expected.removeprefix(LOG).lstrip('0')}")
        state.apply(decode_entry(found[0], f"the {name} in {where}"), found[1])
