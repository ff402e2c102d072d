"""The simulated TEE's measurement: it follows every change of the enclave's code and settings, and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pmap
import wire
from pmap.tee.simulated import measure


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bytes]]:
    """A package with an enclave in it; the function measures it as it is now on the disk."""
    package = tmp_path / "measured_bank"
    (package / "deep" / "er").mkdir(parents=True)
    for name in ("__init__.py", "rules.py", "deep/__init__.py", "deep/er/__init__.py", "deep/er/table.py"):
        (package / name).write_text("")
    (package / "enclave.py").write_text("class Bank:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    def measured() -> bytes:
        module = importlib.import_module("measured_bank.enclave")
        return measure(module.Bank, [1])

    yield measured
    for name in [name for name in sys.modules if name.startswith("measured_bank")]:
        del sys.modules[name]


def test_a_measurement_is_reproducible(bank: Callable[[], bytes]) -> None:
    assert bank() == bank()
    assert len(bank()) == 32


@pytest.mark.parametrize("name", ["enclave.py", "rules.py", "deep/er/table.py", "__init__.py"])
def test_a_change_anywhere_in_the_enclaves_package_is_noticed(
    bank: Callable[[], bytes], tmp_path: Path, name: str
) -> None:
    before = bank()
    file = tmp_path / "measured_bank" / name
    file.write_text(file.read_text() + "# changed\n")
    assert bank() != before


def test_a_new_removed_or_renamed_module_is_noticed(bank: Callable[[], bytes], tmp_path: Path) -> None:
    before = bank()
    package = tmp_path / "measured_bank"
    (package / "rules.py").rename(package / "other.py")
    renamed = bank()
    (package / "other.py").unlink()
    removed = bank()
    (package / "other.py").mkdir()
    (package / "more.py").write_text("")
    assert len({before, renamed, removed, bank()}) == 4


def test_what_is_no_code_is_not_measured(bank: Callable[[], bytes], tmp_path: Path) -> None:
    before = bank()
    (tmp_path / "measured_bank" / "data.txt").write_text("data")
    (tmp_path / "measured_bank" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "measured_bank" / "__pycache__" / "rules.cpython-311.pyc").write_bytes(b"cache")
    (tmp_path / "neighbour.py").write_text("")
    assert bank() == before


def test_settings_and_the_class_itself_are_measured(bank: Callable[[], bytes]) -> None:
    class One:
        pass

    class Two:
        pass

    assert len({measure(One, [1]), measure(One, [2]), measure(Two, [1])}) == 3


@pytest.mark.parametrize("package", [pmap, wire])
def test_a_change_in_the_enclaves_own_libraries_is_noticed(
    bank: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: object
) -> None:
    before = bank()
    copy = tmp_path / "copy"
    copy.mkdir()
    real = Path(package.__file__ or "").parent  # type: ignore[attr-defined]
    for file in real.rglob("*.py"):
        place = copy / real.name / file.relative_to(real)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    monkeypatch.setattr(package, "__file__", str(copy / real.name / "__init__.py"))
    assert bank() == before, "where the code lies does not matter"
    changed = copy / real.name / "py_typed.py"
    changed.write_text("")
    assert bank() != before


def test_a_class_from_a_prompt_is_measured_by_its_bytecode() -> None:
    def typed_in(source: str) -> type:
        names: dict[str, object] = {"__name__": "no such module"}
        exec(source, names)
        made = names["Bank"]
        assert isinstance(made, type)
        return made

    one = "class Bank:\n    def limit(self):\n        return 1\n"
    assert measure(typed_in(one), []) == measure(typed_in(one), [])
    assert measure(typed_in(one), []) != measure(typed_in(one.replace("1", "2")), [])
