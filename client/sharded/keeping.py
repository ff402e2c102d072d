"""What a sharded client keeps: the newest shard map that it has seen, and each store's client state, in one folder.

::

    folder/shards.state              the map, in a file as client states are (:mod:`client.state_file`)
    folder/<store id>.state          keys and evidence of one store, as any client has them

The map in the folder is the lowest that is ever taken again, so whoever shows an older one is told so.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Final, Self

from client.sharded.router import MOVING_DELAYS, Router
from client.state_file import StateFile
from wire.attestation import Attestation
from wire.crypto import PUBLIC_KEY_BYTES
from wire.errors import InvalidInput, StoreReplaced, StoreUnavailable
from wire.shard_map import ShardStore, open_shard_map, parse_shard_map_text

MAP_FILE: Final = "shards.state"


class Keeping:
    """The folder of a sharded client, or nothing at all. Locked until :meth:`close`."""

    def __init__(self, folder: Path | None, file: StateFile | None, router: Router) -> None:
        self.folder = folder
        self.router = router
        self._file = file
        self._written = router.shards.version
        self._guard = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: str | PathLike[str] | None,
        owner: str,
        shard_map: str | None,
        delays: Sequence[float] = MOVING_DELAYS,
    ) -> Self:
        """``owner``: the pinned public key in hexadecimal. ``shard_map``: the text of a map; needed the first time.

        Raises :class:`ShardMapInvalid`, :class:`StaleShardMap`, :class:`ShardMapForked`, :class:`InvalidInput`, and
        what :class:`StateFile` raises.
        """
        owner_key = parse_owner(owner)
        shown = None if shard_map is None else parse_shard_map_text(shard_map)
        if folder is None:
            if shown is None:
                raise InvalidInput("a sharded client without a folder needs a shard map")
            return cls(None, None, Router(owner_key, shown, delays))
        path = Path(folder)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot make the folder {path}: {error.strerror}") from error
        file = StateFile.open(path / MAP_FILE)
        try:
            kept = file.read()
            first = kept if kept is not None else shown
            if first is None:
                raise InvalidInput(f"there is no shard map in {path} yet: give one")
            keeping = cls(path, file, Router(owner_key, first, delays))
            if kept is None:
                file.write(first, durable=True)
            elif shown is not None:
                keeping.show(shown)
        except BaseException:
            file.close()
            raise
        return keeping

    def show(self, signed: bytes) -> None:
        """Take a map that somebody shows, if it is newer. Raises as :meth:`client.sharded.router.Router.learn`."""
        for keep in self.router.learn(signed):
            self.write(keep.signed)  # type: ignore[union-attr]  # it yields nothing else

    def write(self, signed: bytes) -> None:
        """Keep a newer map, durably, unless a still newer one is kept by now."""
        version = open_shard_map(signed).version
        with self._guard:
            if self._file is not None and version > self._written:
                self._file.write(signed, durable=True)
            self._written = max(version, self._written)

    def state_of(self, store: bytes) -> Path | None:
        """Where the client state of a store (its id) is."""
        return None if self.folder is None else self.folder / f"{store.hex()}.state"

    def close(self) -> None:
        """Let others use the folder. Again is fine."""
        if self._file is not None:
            self._file.close()


def parse_owner(owner: str) -> bytes:
    """The public key of a shard map's owner. Raises :class:`InvalidInput`."""
    try:
        key = bytes.fromhex(owner)
    except (ValueError, TypeError) as error:
        raise InvalidInput("a shard map's owner is a public key in hexadecimal") from error
    if len(key) != PUBLIC_KEY_BYTES:
        raise InvalidInput(f"a shard map's owner is a public key: {2 * PUBLIC_KEY_BYTES} hexadecimal digits")
    return key


def check_store(store: ShardStore, store_id: bytes, checkpoint_key: bytes) -> None:
    """Whether it is the map's store that answers. Raises :class:`StoreReplaced`."""
    if (store_id, checkpoint_key) != (store.store_id, store.checkpoint_key):
        raise StoreReplaced(
            f"the shard map names store {store.store_id.hex()} at {store.url}, and store {store_id.hex()} answers there"
        )


def check_document(store: ShardStore, untrusted_document: bytes) -> None:
    """The same, before a client state is made for it; the document is verified only later. Raises
    :class:`StoreReplaced` and :class:`Malformed`."""
    shown = Attestation.decode(untrusted_document)
    check_store(store, shown.store_id, shown.checkpoint_key)
