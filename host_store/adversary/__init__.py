"""A malicious host that stands where the real one stands: to attack enclaves, yours included, and see who notices.

Real enclave, real store (in a folder, or on a shared engine), real :class:`host_store.host.EnclaveHost`, real clients;
what is added is ill will::

    with MaliciousHost(Bank) as host:
        alice = host.client("alice")
        alice.send(b"25")
        yesterday = host.snapshot()
        alice.send(b"-25")
        host.restore(yesterday)
        with host.refuses(RollbackDetected):
            alice.send(b"-25")

For tests only. As a pytest fixture: :mod:`host_store.adversary.pytest_plugin`; explained in ``docs/attack-testing.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host_store.adversary.archive import Archive, Direction, Message
    from host_store.adversary.host import MaliciousHost
    from host_store.adversary.recording_store import Crashed, StoreCall
    from host_store.adversary.snapshot import Snapshot

_PLACES = {
    "Archive": "archive",
    "Crashed": "recording_store",
    "Direction": "archive",
    "MaliciousHost": "host",
    "Message": "archive",
    "Snapshot": "snapshot",
    "StoreCall": "recording_store",
}

__all__ = ["Archive", "Crashed", "Direction", "MaliciousHost", "Message", "Snapshot", "StoreCall"]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: pytest imports the plugin, and with it this package, in every run.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
