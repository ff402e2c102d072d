"""A shared store as one file, and back. A folder of LMDB's needs no such thing: copy it.

What comes back is the store as it was: whoever has seen more of it since calls that a rollback, as it is meant to be.

::

    file   = magic ‖ object ‖ object ...
    object = length of name (4) ‖ name ‖ length of value (8) ‖ value
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from host_store.stores.engine import Engine, Patience, all_names
from host_store.stores.loading import FORMAT_NAME, RESTORING, half_restored
from wire.errors import CorruptedStore, InvalidInput, StoreMissing

MAGIC: Final = b"pmap-backup/1"
MAX_NAME_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 64 << 20
_PREFIXES: Final = ("format", "index/", "log/", "part/", "tile/")
_ENCODED: Final = tuple(prefix.encode() for prefix in _PREFIXES)
_NAME_LENGTH, _VALUE_LENGTH = 4, 8
_AT_ONCE: Final = 32


def save(engine: Engine, patience: Patience, file: Path) -> int:
    """Write every object to a new file; how many there are. No host may be serving the store.

    Raises :class:`StoreMissing`, :class:`StoreUnavailable`, and OSError.
    """
    found = patience(lambda seconds: engine.get(FORMAT_NAME, seconds))
    if found is None:
        raise StoreMissing(f"there is no store in {engine.where}")
    if found == RESTORING:
        raise half_restored(engine.where)
    count = 0
    with file.open("xb") as out:
        out.write(MAGIC)
        for name in every_name(engine, patience):
            value = patience(lambda seconds, name=name: engine.get(name, seconds))  # type: ignore[misc]
            if value is None:
                raise CorruptedStore(f"{engine.where} lost {name} while it was read: is a host serving it?")
            encoded = name.encode()
            out.write(len(encoded).to_bytes(_NAME_LENGTH, "big") + encoded)
            out.write(len(value).to_bytes(_VALUE_LENGTH, "big") + value)
            count += 1
    return count


def restore(engine: Engine, patience: Patience, file: Path) -> int:
    """Put a saved store in the place of whatever is there; how many objects it has. No host may be serving it.

    Until the last object is there, what is there is no store, and cannot be opened: a part of a log would look like a
    store that was rolled back further. Raises :class:`InvalidInput` for a file that is none, and nothing was changed;
    :class:`StoreUnavailable`, OSError.
    """
    with file.open("rb") as saved:  # all of it, before the first deletion
        names = [name for name, _value in _read(saved, file)]
        if FORMAT_NAME not in names:
            raise InvalidInput(f"{file} is a backup without a store: nothing was changed")
    patience(lambda seconds: engine.put(FORMAT_NAME, RESTORING, seconds))
    gone = [name for name in every_name(engine, patience) if name != FORMAT_NAME]
    for start in range(0, len(gone), _AT_ONCE):
        some = gone[start : start + _AT_ONCE]
        patience(lambda seconds, some=some: engine.delete(some, seconds))  # type: ignore[misc]
    count, form = 1, b""
    with file.open("rb") as saved:
        for name, value in _read(saved, file):
            if name == FORMAT_NAME:
                form = value
                continue
            patience(lambda seconds, name=name, value=value: engine.put(name, value, seconds))  # type: ignore[misc]
            count += 1
    patience(lambda seconds: engine.put(FORMAT_NAME, form, seconds))
    return count


def every_name(engine: Engine, patience: Patience) -> Iterator[str]:
    """Of the objects that a store may have."""
    for prefix in _PREFIXES:
        if prefix.endswith("/"):
            yield from all_names(engine, patience, prefix)
        else:
            yield prefix


def _read(saved: IO[bytes], file: Path) -> Iterator[tuple[str, bytes]]:
    def bounded(length_bytes: int, most: int) -> Callable[[bytes], bytes]:
        def value(head: bytes) -> bytes:
            length = int.from_bytes(head, "big")
            data = saved.read(length) if length <= most and len(head) == length_bytes else b""
            if len(data) != length or len(head) != length_bytes:
                raise InvalidInput(f"{file} is cut off or damaged: nothing was changed")
            return data

        return value

    if saved.read(len(MAGIC)) != MAGIC:
        raise InvalidInput(f"{file} is no backup of a store")
    while head := saved.read(_NAME_LENGTH):
        name = bounded(_NAME_LENGTH, MAX_NAME_BYTES)(head)
        value = bounded(_VALUE_LENGTH, MAX_VALUE_BYTES)(saved.read(_VALUE_LENGTH))
        if not any(name == prefix or (prefix[-1:] == b"/" and name.startswith(prefix)) for prefix in _ENCODED):
            raise InvalidInput(f"{file} holds what is no part of a store: nothing was changed")
        yield name.decode("ascii", "replace"), value
