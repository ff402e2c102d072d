"""The tests that documents and tables name."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def names_of_tests(path: Path) -> set[str]:
    """The names of all test functions in a file, those of classes among them; none if there is no such file."""
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_test(node)}


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
