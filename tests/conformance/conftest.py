"""Each of these scenarios runs with the enclave in this process and, where it says so, as a process of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attacked_enclaves import Ledger

from host_store.adversary import MaliciousHost


@pytest.fixture
def host(malicious_host: Callable[..., MaliciousHost]) -> MaliciousHost:
    return malicious_host(Ledger)
