"""The host side: stores for encrypted records, the enclave process, the web server, the command line. Not trusted.

:func:`open_map` (a map) and :func:`open_store` (a map and files) embed the store in a program of your own, without
mail; they alone bring enclave code into this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host_store.in_process.embedded import EmbeddedMap, open_map
    from host_store.in_process.embedded_store import EmbeddedStore, open_store

__all__ = ["EmbeddedMap", "EmbeddedStore", "open_map", "open_store"]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: a host that runs its enclave as a process never imports the enclave's code.
    if name in __all__:
        from host_store.in_process import embedded, embedded_store

        return getattr(embedded_store if name.endswith(("Store", "store")) else embedded, name)
    raise AttributeError(f"module 'host_store' has no attribute {name!r}")
