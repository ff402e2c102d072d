"""Who an enclave is: see :mod:`wire.identity`, which an enclave uses too before it trusts another one."""

from wire.identity import Identity, SecurityLevel

__all__ = ["Identity", "SecurityLevel"]
