"""The import rules: a package is a side of the trust boundary, and who may import what is checked from the source.

Imports are read with ``ast``, so one inside a function or under ``TYPE_CHECKING`` counts too, and so does
``importlib.import_module`` of a constant. A module is named by its dotted name, ``pmap.log``.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "wire": set[str](),
    "pmap": {"wire"},
    "host_store": {"wire"},
    "client": {"wire"},
}
"""Which of our other packages each package may import."""

EXCEPTIONS = {
    ("host_store.in_process", "pmap"): "runs the enclave inside the host's process, for embedding and tests",
    ("host_store.adversary", "client"): "a test tool: it hands out real clients and stands between them and the host",
}
"""(module or subpackage, package) beyond MAY_IMPORT, each with its reason."""

ONLY_IMPORTER = {
    "msgpack": "wire.codec",
    "lmdb": "host_store.lmdb.environment",
    "cbor2": "wire.cbor",
    "dcap_qvl": "wire.tee.intel",
    "dstack_sdk": "pmap.tee.dstack",
    "tpm2_pytss": "pmap.tee.vtpm",
}
"""Libraries that parse bytes or own a resource: exactly this one module imports each."""

FORBIDDEN = {
    "pmap": {"asyncio", "click", "lmdb", "rich", "starlette", "uvicorn"},
    "client": {"lmdb", "starlette", "uvicorn"},
}
"""What a package must not import, the standard library included."""

INSIDE_THE_ENCLAVE = {"wire", "pmap"}
"""The packages that are trusted code: beside the standard library, only pyproject's core dependencies."""

OPTIONAL_INSIDE = {
    "apsw": {"pmap.filesystem.sqlite", "pmap.filesystem.sqlite_file"},
    "fsspec": {"pmap.filesystem.fsspec_files"},
}
"""Trusted code by the author's choice: what an enclave may use that imports one of these modules. Nothing else does."""
FOR_ONE_TEE = {"cbor2", "dcap_qvl", "dstack_sdk", "tpm2_pytss"}
"""What an enclave loads only on the one kind of TEE that needs it, or to verify that kind's evidence."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: ``target`` is a dotted name; ``runtime`` is False under ``TYPE_CHECKING``."""

    target: str
    line: int
    runtime: bool

    @property
    def top(self) -> str:
        """The top-level package or module."""
        return self.target.partition(".")[0]


def imports_of(source: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """Every import in ``source``. ``from a import b`` gives ``a.b``: whether b is a module is for the caller to see."""
    tree = ast.parse(source, filename=module)
    type_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        runtime = id(node) not in type_only
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, runtime)
            case ast.ImportFrom(module=base, names=names, level=level):
                if level:
                    parts = module.split(".")
                    parts = parts[: len(parts) - level + (1 if is_package else 0)]
                    base = ".".join([*parts, base] if base else parts)
                for alias in names:
                    yield Import(f"{base}.{alias.name}", node.lineno, runtime)
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(function).rpartition(".")[2] in {"import_module", "__import__"}:
                    yield Import(name, node.lineno, runtime)


def read_modules() -> dict[str, list[Import]]:
    """Every module of the four packages, with its imports."""
    modules = {}
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = list(imports_of(path.read_text(encoding="utf-8"), name, is_package=is_package))
    return modules


MODULES = read_modules()


def package_of(module: str) -> str:
    return module.partition(".")[0]


def is_within(module: str, place: str) -> bool:
    """Whether ``module`` is ``place`` or lies in the package ``place``."""
    return module == place or module.startswith(place + ".")


def importers_of(library: str) -> set[str]:
    return {module for module, imports in MODULES.items() if any(found.top == library for found in imports)}


def core_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[^A-Za-z0-9_-]", requirement)[0] for requirement in project["dependencies"]}


def imported_modules(imports: list[Import], known: set[str]) -> set[str]:
    """The modules of ours that ``imports`` run: ``wire.codec.pack`` means ``wire.codec``."""
    found = set()
    for target in (one.target for one in imports if one.runtime):
        while target and target not in known:
            target = target.rpartition(".")[0]
        if target:
            found.add(target)
    return found


def test_every_form_of_import_is_seen() -> None:
    source = """
import os.path, msgpack as m
from wire import codec
from . import sibling
from ..above import thing
if TYPE_CHECKING:
    from wire.alarm import Alarm
def late():
    import lmdb
    importlib.import_module("uvicorn.config")
    __import__("click")
"""
    seen = {(one.target, one.runtime) for one in imports_of(source, "pmap.files.inode", is_package=False)}
    assert seen == {
        ("os.path", True),
        ("msgpack", True),
        ("wire.codec", True),
        ("pmap.files.sibling", True),
        ("pmap.above.thing", True),
        ("wire.alarm.Alarm", False),
        ("lmdb", True),
        ("uvicorn.config", True),
        ("click", True),
    }
    (in_package,) = imports_of("from . import inode", "pmap.files", is_package=True)
    assert in_package.target == "pmap.files.inode"


def test_every_package_has_modules_and_every_folder_of_them_an_init() -> None:
    assert {package_of(module) for module in MODULES} == set(MAY_IMPORT)
    folders = {path.parent for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")}
    without = sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists())
    assert without == [], "without __init__.py a folder is left out of the built package"


def test_packages_import_each_other_only_as_the_trust_boundary_allows() -> None:
    violations = [
        f"{module} line {found.line} imports {found.target}"
        for module, imports in MODULES.items()
        for found in imports
        if found.top in MAY_IMPORT
        and found.top != package_of(module)
        and found.top not in MAY_IMPORT[package_of(module)]
        and not any(is_within(module, place) and found.top == package for place, package in EXCEPTIONS)
    ]
    assert violations == []


def test_no_exception_outlives_its_use() -> None:
    unused = [
        (place, package)
        for place, package in EXCEPTIONS
        if not any(is_within(module, place) for module in importers_of(package))
    ]
    assert unused == []


def test_each_library_that_parses_or_owns_has_one_importer() -> None:
    assert {library: importers_of(library) for library in ONLY_IMPORTER} == {
        library: {module} for library, module in ONLY_IMPORTER.items()
    }


def test_enclave_and_client_import_nothing_of_the_host() -> None:
    violations = [
        f"{module} line {found.line} imports {found.target}"
        for module, imports in MODULES.items()
        for found in imports
        if found.top in FORBIDDEN.get(package_of(module), ())
    ]
    assert violations == []


def test_the_enclave_needs_only_the_core_dependencies() -> None:
    allowed = sys.stdlib_module_names | set(MAY_IMPORT) | core_dependencies() | FOR_ONE_TEE
    violations = [
        f"{module} line {found.line} imports {found.target}"
        for module, imports in MODULES.items()
        for found in imports
        if package_of(module) in INSIDE_THE_ENCLAVE
        and found.top not in allowed
        and module not in OPTIONAL_INSIDE.get(found.top, ())
    ]
    assert violations == []


def test_optional_packages_stay_out_of_an_enclave_that_does_not_ask_for_them() -> None:
    optional = set().union(*OPTIONAL_INSIDE.values())
    importers = {
        module
        for module, imports in MODULES.items()
        if module not in optional and imported_modules(imports, set(MODULES)) & optional
    }
    assert importers == set()
    assert {library: importers_of(library) for library in OPTIONAL_INSIDE} == OPTIONAL_INSIDE


def test_modules_import_each_other_without_cycles() -> None:
    known = set(MODULES)
    graph = {module: imported_modules(imports, known) - {module} for module, imports in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from error
