"""Freshness can be dropped in a benchmark's own process, and nowhere else."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("wire", "pmap", "host_store", "client")

TRY = """
import sys
from pathlib import Path
from benchmarks.mail_core import Core
from benchmarks.unfresh import drop_freshness
from wire.checkpoint import encode_evidence
from wire.mail import Outcome, open_reply

if sys.argv[2] == "without":
    drop_freshness()
core = Core(Path(sys.argv[1]))
(client,) = core.clients(1)

def mail():
    (answer,), _ = core.exchange([client.seal(next(core.bodies))])
    reply = open_reply(answer, client._secret, client._attestation.store_id)
    if reply.outcome is Outcome.EXECUTED:
        client.accept(answer)
    return reply

first, second = mail(), mail()
assert first.outcome is second.outcome is Outcome.EXECUTED
assert core.written.core._runtime.log.n == core.written.store.head().n, "every commit was stored"
print("checkpoint" if second.checkpoint else "none")
# A client restored from a backup: it shows the evidence of the mail before the last one.
client._evidence = client._highest = encode_evidence(first.checkpoint)
print(mail().outcome.name)
(leaf,) = {core.written.store.node(0, core.written.store.head().n - 1)}
print("hashed" if any(leaf) else "zeros")
"""


@pytest.mark.parametrize(
    ("freshness", "expected"),
    [("with", ["checkpoint", "REFUSED", "hashed"]), ("without", ["none", "EXECUTED", "zeros"])],
)
def test_without_freshness_nothing_is_checked_hashed_or_signed(
    tmp_path: Path, freshness: str, expected: list[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TRY, tmp_path / "store", freshness],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == expected, ran.stderr


def test_importing_the_switch_throws_nothing() -> None:
    import benchmarks.unfresh  # noqa: F401
    from pmap.core import EnclaveCore
    from pmap.freshness import Evidence
    from pmap.history import Frontier
    from pmap.log import leaf_hash
    from pmap.runtime import Runtime, resolve

    for part in (EnclaveCore.checkpoint.fget, Evidence.check_stream, Frontier, leaf_hash, Runtime.save_client, resolve):
        assert part is not None
        assert not part.__module__.startswith("benchmarks")


def test_no_module_of_the_product_imports_or_names_the_benchmarks() -> None:
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                if isinstance(node, ast.ImportFrom):
                    imported.append(node.module or "")
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    imported.append(node.value)
                assert not any(name.partition(".")[0] == "benchmarks" for name in imported), f"{path}:{node.lineno}"


def test_the_benchmarks_are_not_part_of_what_gets_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted({package.partition(".")[0] for package in packages}) == sorted(PRODUCT)
