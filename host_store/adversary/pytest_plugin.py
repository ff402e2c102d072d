"""The pytest plugin: a ``malicious_host`` fixture for attacks on enclaves of your own. Comes with ``pip install pmap``.

::

    def test_nobody_withdraws_twice(malicious_host):
        host = malicious_host(Bank)
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from host_store.adversary.host import MaliciousHost


@pytest.fixture
def malicious_host(tmp_path: Path) -> Iterator[Callable[..., MaliciousHost]]:
    """Makes a :class:`MaliciousHost` of an enclave class; each call one with a store, clients and keys of its own."""
    # Not before somebody asks: this module is imported in every run of pytest.
    from host_store.adversary.host import MaliciousHost

    with ExitStack() as hosts:

        def start(enclave: type, **options: Any) -> MaliciousHost:
            folder = tmp_path / f"malicious-{len(list(tmp_path.glob('malicious-*')))}"
            return hosts.enter_context(MaliciousHost(enclave, **{"folder": folder, **options}))

        yield start
