"""A fresh adversarial host for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import adversarial_host
import pytest
from adversarial_host import AdversarialHost, Forgetful


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AdversarialHost]:
    adversarial_host.executed.clear()
    host = AdversarialHost(tmp_path / "store")
    yield host
    host.close()


@pytest.fixture
def stateless_host(tmp_path: Path) -> Iterator[AdversarialHost]:
    adversarial_host.executed.clear()
    host = AdversarialHost(tmp_path / "none", Forgetful)
    yield host
    host.close()
