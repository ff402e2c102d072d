"""Which enclaves a client accepts: see :mod:`wire.constraint`, which an enclave uses too for its successor."""

from wire.constraint import Constraint, Period

__all__ = ["Constraint", "Period"]
