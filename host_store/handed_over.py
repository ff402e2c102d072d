"""The mark on a store that was handed over to its successor: for honest hosts, who would not fork it by mistake."""

from __future__ import annotations

from typing import Final

from host_store.store import Store
from wire.errors import StoreHandedOver

_MAGIC: Final = b"pmh\x01"


def check_not_handed_over(keyring: bytes | None) -> None:
    """Raises :class:`StoreHandedOver` for the mark that :func:`mark_handed_over` leaves in a keyring's place."""
    if keyring is not None and keyring.startswith(_MAGIC):
        raise StoreHandedOver("this store was handed over to its successor, and is served there: serve that one")


def mark_handed_over(store: Store) -> None:
    """See to it that nobody serves the store again by mistake. The sealed keyring stays, behind the mark."""
    keyring = store.keyring()
    if keyring is not None and not keyring.startswith(_MAGIC):
        store.replace_keyring(_MAGIC + keyring)
