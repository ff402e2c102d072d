"""The enclave under test, in a module that brings nothing of the benchmarks into an enclave process."""

from __future__ import annotations

from pmap.kv import KeyValueEnclave


class BigKeyValueEnclave(KeyValueEnclave):
    """The ready-made key-value enclave with room for the largest map measured here."""

    max_persistent_map_size = "8g"
