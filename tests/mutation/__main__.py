"""Mutation testing: change the code that trust rests on, one operator at a time, and see that a test notices.

    make mutants                        # every group of modules
    make mutants GROUPS="freshness log" # some

Each group (groups.py) is a copy of the sources under build/mutation, where its modules are replaced by mutants. What
survives is compared with equivalent.toml, which lists every mutant that behaves as the original does, and why; any
other survivor fails the run, and so does an entry of that list that no longer is one.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

from mutation.groups import GROUPS, Group
from mutation.worker import KILLED

REPOSITORY = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
SOURCES = ["wire", "pmap", "host_store", "client", "tests"]
WORDING = r'^\s*raise \w+\(f?"[^"]*"\)( from \w+)?$'
"""A line that holds the text of an error and nothing else: not mutated."""


class Change(NamedTuple):
    """A mutant as people read it, and as equivalent.toml names it: the lines that went and the lines that came."""

    function: str
    was: str
    becomes: str

    def __str__(self) -> str:
        return f"{self.function}\n  - {self.was}\n  + {self.becomes}"


class Outcome(NamedTuple):
    """What became of one group's mutants."""

    mutants: int
    wording: int
    equivalent: list[Change]
    survivors: list[Change]
    seconds: float


def main() -> int:
    """Run the groups and print the table; 1 if a mutant survived that is not listed, or one is listed that did not."""
    parser = argparse.ArgumentParser(prog="make mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("groups", nargs="*", help=f"which: {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "mutation", help="where the copies go")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    listed = _listed()
    outcomes: dict[str, Outcome] = {}
    for name in arguments.groups or GROUPS:
        print(f"--- {name}: {' '.join(GROUPS[name].modules)}", flush=True)
        outcomes[name] = _run(arguments.work.absolute() / name, GROUPS[name], listed)
    return _report(outcomes, listed)


def _run(folder: Path, group: Group, listed: set[Change]) -> Outcome:
    _prepare(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder / "tests")])
    task = {"modules": group.modules, "arguments": [*group.options, *group.tests]}
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "mutation.worker", json.dumps(task)], cwd=folder, env=environment, check=True)
    seconds = time.monotonic() - started
    results: dict[str, str] = json.loads((folder / "results.json").read_text())
    versions = {module: _functions(folder / module) for module in group.modules}
    wording, equivalent, survivors = 0, [], []
    for mutant, result in results.items():
        if result == KILLED:
            continue
        module, _, function = mutant.rpartition(".")
        functions = versions[module.replace(".", "/") + ".py"]
        original, mutated = functions[function.partition("__mutmut_")[0] + "__mutmut_orig"], functions[function]
        if _without_wording(original) == _without_wording(mutated):
            wording += 1
            continue
        change = _change(module, original, mutated)
        (equivalent if change in listed else survivors).append(change)
    return Outcome(len(results), wording, equivalent, survivors, seconds)


def _prepare(folder: Path) -> None:
    """A copy of the sources, with mutmut's configuration in its pyproject.toml."""
    shutil.rmtree(folder, ignore_errors=True)
    for source in SOURCES:
        shutil.copytree(REPOSITORY / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    configuration = (
        f"\n[tool.mutmut]\nsource_paths = ['wire', 'pmap', 'client']\ndo_not_mutate_patterns = ['{WORDING}']\n"
    )
    (folder / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text() + configuration)


def _functions(path: Path) -> dict[str, str]:
    """The source of every version of every function in a module of mutants."""
    text = path.read_text()
    lines = text.splitlines()
    return {
        node.name: "\n".join(line.removesuffix(_GENERATED) for line in lines[node.lineno - 1 : node.end_lineno])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }


_GENERATED = " # type: ignore # mutmut generated"


def _change(module: str, original: str, mutated: str) -> Change:
    name = _name(original)
    was, becomes = [], []
    for line in difflib.ndiff(original.splitlines()[1:], mutated.splitlines()[1:]):
        if line.startswith("- "):
            was.append(line[2:].strip())
        elif line.startswith("+ "):
            becomes.append(line[2:].strip())
    return Change(f"{module}.{name}", " ".join(was), " ".join(becomes))


def _name(source: str) -> str:
    mangled = source.split("def ", 1)[1].partition("__mutmut_")[0]
    return mangled.removeprefix("xǁ").replace("ǁ", ".").removeprefix("x_")


class _WithoutWording(ast.NodeTransformer):
    """Leaves out what only people read: an exception's first argument, and an assertion's message."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = ""
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = node.exc.args[1:]
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return node


def _without_wording(source: str) -> str:
    indent = len(source) - len(source.lstrip())
    nested = "if True:\n" + source if indent else source
    return ast.dump(_WithoutWording().visit(ast.parse(nested)))


def _listed() -> set[Change]:
    entries = tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
    assert all(entry["why"] for entry in entries), "each mutant that is listed as equivalent says why"
    return {Change(entry["function"], entry["was"], entry["becomes"]) for entry in entries}


def _report(outcomes: dict[str, Outcome], listed: set[Change]) -> int:
    row = "{:<12} {:>8} {:>8} {:>13} {:>11} {:>9} {:>8}".format
    print("\n" + row("group", "mutants", "killed", "wording only", "equivalent", "survived", "seconds"))
    for name, outcome in outcomes.items():
        left = (outcome.wording, len(outcome.equivalent), len(outcome.survivors))
        print(row(name, outcome.mutants, outcome.mutants - sum(left), *left, round(outcome.seconds)))
    survivors = [change for outcome in outcomes.values() for change in outcome.survivors]
    for change in survivors:
        print(f"\nsurvived: {change}")
    modules = {module.removesuffix(".py").replace("/", ".") for name in outcomes for module in GROUPS[name].modules}
    seen = {change for outcome in outcomes.values() for change in outcome.equivalent}
    stale = [change for change in listed - seen if change.function.startswith(tuple(f"{name}." for name in modules))]
    for change in stale:
        print(f"\nlisted as equivalent, but killed or gone: {change}")
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main())
