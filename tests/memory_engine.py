"""An engine in memory: what a log of objects asks of one, and no more."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

from wire.errors import StoreUnavailable


class MemoryEngine:
    """Engines of one name share their objects."""

    part_bytes = 64 * 1024
    _all: ClassVar[dict[str, dict[str, bytes]]] = {}

    def __init__(self, objects: dict[str, bytes], where: str = "memory") -> None:
        self.objects = objects
        self.where = where
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def of(cls, name: str) -> MemoryEngine:
        return cls(cls._all.setdefault(name, {}))

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        self._check()
        assert len(value) <= self.part_bytes
        return self.objects.setdefault(name, value) is value

    def put(self, name: str, value: bytes, seconds: float) -> None:
        self._check()
        assert len(value) <= self.part_bytes
        self.objects[name] = value

    def get(self, name: str, seconds: float) -> bytes | None:
        self._check()
        return self.objects.get(name)

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        return [self.get(name, seconds) for name in names]

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        self._check()
        return sorted(name for name in list(self.objects) if name.startswith(prefix) and name > after)[:limit]

    def delete(self, names: Sequence[str], seconds: float) -> None:
        self._check()
        for name in names:
            self.objects.pop(name, None)

    def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
