"""What a malicious host keeps its store in, and may do to it."""

from __future__ import annotations

from typing import Any, Protocol, Self

from host_store.store import Store


class Medium(Protocol):
    """A place for one store. All but :meth:`snapshot` is done while nobody has the store open.

    A snapshot (``Any`` here, of a class of the medium's own) holds everything that is kept, byte for byte.
    """

    def open(self) -> Store:
        """Open the store, or begin one. Raises what the store says."""
        ...

    def beside(self, name: str) -> Self:
        """A place of the same kind for another store."""
        ...

    def close(self) -> None:
        """Let go of it; the store stays."""
        ...

    def snapshot(self, n: int) -> Any:
        """What is there now; ``n``: the newest commit. Nobody appends meanwhile."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Put a snapshot in the place of whatever is there."""
        ...

    def delete(self) -> None:
        """Leave nothing."""
        ...

    # --- changes that no honest host would make ---

    def read_record(self, n: int) -> bytes:
        """One record. Raises :class:`wire.errors.InvalidInput` if it is not there."""
        ...

    def put_record(self, n: int, record: bytes | None) -> None:
        """Let record ``n`` be these bytes, or be gone; its leaf hash stays."""
        ...

    def put_keyring(self, keyring: bytes | None) -> None:
        """Let the keyring be these bytes, or be gone."""
        ...

    def put_outbox_of(self, snapshot: Any) -> None:
        """Let exactly what waits in a snapshot wait here."""
        ...
