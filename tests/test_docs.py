"""The documents say what the code says: limits, labels, sizes, numbers, names of tests, links, and examples."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from named_tests import names_of_tests

from wire import limits
from wire.checkpoint import sign_checkpoint
from wire.crypto import SigningKey, derive_key, open_once, seal_once, sha256
from wire.mail import Outcome, reply_digest
from wire.merkle import leaf_hash
from wire.record import encode_header

ROOT = Path(__file__).resolve().parent.parent
SPEC = (ROOT / "docs/spec.md").read_text(encoding="utf-8")
THREAT_MODEL = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PACKAGES = ("wire", "pmap", "host_store", "client")
UNITS = {"KiB": 1024, "MiB": 1024**2}
MAGIC_NAMES = {"MAGIC", "_MAGIC", "LAYOUT", "ORIGIN_PREFIX", "_DOMAIN", "_HEAD"}
KDF_LABEL_ARGUMENT = {"derive_key": 2, "seal_once": 1, "open_once": 1}
"""Which argument of each function is the label of a key."""


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of every row of the spec's table whose first column is headed so."""
    found = False
    lines = SPEC.split("\n")
    for at, line in enumerate(lines):
        if not line.startswith(f"| {heading} |"):
            continue
        found = True
        for row in lines[at + 2 :]:
            if not row.startswith("|"):
                break
            yield [cell.strip() for cell in row.strip("|").split("|")]
    assert found, f"the spec has no table of {heading}"


def code(cell: str) -> str:
    """What stands in a cell between backticks."""
    match = re.fullmatch(r"`([^`]*)`", cell)
    assert match, f"{cell!r} is not code"
    return match[1].strip()


def attribute(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


# --- what the code says -----------------------------------------------------------------------------------


@cache
def modules() -> dict[str, ast.Module]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def constants_of(tree: ast.Module) -> dict[str, ast.expr]:
    """Module-level names and what is assigned to them."""
    assigned: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            assigned[node.target.id] = node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = node.value
    return assigned


def literal_text(node: ast.expr | None) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def labels_in_code() -> set[str]:
    """The label of every key that is derived anywhere."""
    labels = set()
    for path, tree in modules().items():
        constants = constants_of(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = KDF_LABEL_ARGUMENT.get(node.func.id)
            if place is None or path == "wire/crypto.py":
                continue
            argument = node.args[place]
            if isinstance(argument, ast.Name):
                argument = constants[argument.id]
            label = literal_text(argument)
            assert label is not None, f"{path}:{node.lineno} derives a key with a label that is no literal"
            labels.add(label)
    return labels


def prefixes_in_code() -> set[str]:
    """Every literal that begins like a prefix under which we hash or sign."""
    found = set()
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                text = node.value.decode("latin-1")
                if text.startswith(("pmap/1", "pmap simulated")):
                    found.add(text.strip())
    return found


def magics_in_code() -> set[str]:
    found = set()
    for tree in modules().values():
        for name, value in constants_of(tree).items():
            text = literal_text(value) if name in MAGIC_NAMES else None
            if text is not None:
                found.add(text.rstrip("\x01"))  # some have their version with them
    return found


@cache
# --- the spec -----------------------------------------------------------------------------------------------


def test_every_limit_stands_in_the_spec_with_its_value():
    in_code = {
        name: value
        for name, value in vars(limits).items()
        if name.isupper() and isinstance(value, int) and name not in UNITS and name not in ("KIB", "MIB")
    }
    in_spec = {}
    for name, value, unit, _meaning in rows("constant"):
        assert code(name) not in in_spec, f"{name} stands twice in the table of limits"
        in_spec[code(name)] = int(value.replace(",", "")) * UNITS.get(unit, 1)
    assert in_spec == in_code


def test_every_key_label_of_the_spec_is_in_the_code_and_the_other_way_round():
    assert {code(row[0]) for row in rows("label")} == labels_in_code()


def test_every_hash_prefix_of_the_spec_is_in_the_code_and_the_other_way_round():
    assert {code(row[0]) for row in rows("prefix")} == prefixes_in_code()


def test_every_magic_of_the_spec_is_in_the_code_and_the_other_way_round():
    assert {code(row[0]) for row in rows("magic")} == magics_in_code()


@pytest.mark.parametrize("row", list(rows("size")), ids=lambda row: row[0])
def test_every_size_of_the_spec_is_that_of_the_code(row):
    assert attribute(code(row[1])) == int(row[2])


@pytest.mark.parametrize("row", list(rows("enumeration")), ids=lambda row: row[0])
def test_every_enumeration_of_the_spec_is_that_of_the_code(row):
    enumeration = attribute(code(row[0]))
    assert isinstance(enumeration, type) and issubclass(enumeration, IntEnum)
    stated = {name: int(number) for number, name in (item.split(" ") for item in row[1].split(", "))}
    assert stated == {member.name: int(member) for member in enumeration}


def test_every_kind_of_frame_in_the_spec_is_that_of_the_code():
    frames = importlib.import_module("wire.frames")
    stated = {(int(number), name) for number, name, *_ in rows("kind")}
    assert stated == {(number, kind.__name__) for kind, number in frames._KINDS.items()}


def test_the_widths_of_the_clients_table_are_those_of_the_code():
    table = importlib.import_module("pmap.clients")
    stated = [int(width) for _, _, value in rows("namespace") for width in re.findall(r"(\d+) bytes", value)]
    assert stated == [table._client.size, table._stream.size, table._place.size]


def test_every_namespace_of_the_spec_is_that_of_the_code():
    entries = importlib.import_module("pmap.entries")
    in_code = {
        (f"0x{value[0]:02x}", name)
        for name, value in vars(entries).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }
    stated = {tuple(row[0].replace("`", "").split(" ")) for row in rows("namespace")}
    assert stated == in_code


def test_rules_are_numbered_without_gaps_and_every_rule_that_is_quoted_exists():
    numbers = [int(number) for number in re.findall(r"^- \*\*R-(\d+)\*\*", SPEC, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    quoted = {int(number) for path in DOCUMENTS for number in re.findall(r"R-(\d+)", path.read_text(encoding="utf-8"))}
    assert quoted <= set(numbers)


def test_the_test_vectors_of_the_spec_hold():
    header = encode_header(b"\3" * 16, b"\4" * 32, 7, 5, b"\5" * 32)
    key = SigningKey(b"\6" * 32)
    checkpoint = sign_checkpoint(key, b"\3" * 16, 7, b"\x08" * 32)
    expected = [
        derive_key(b"\1" * 32, b"\2" * 32, b"log", b"\3" * 16),
        seal_once(b"\1" * 32, b"mail", b"hello", b"aad", lambda length: b"\x09" * length),
        header,
        leaf_hash(header),
        sha256(b"pmap/1 epoch" + b"\1" * 32 + (7).to_bytes(8, "big") + b"\5" * 32),
        reply_digest(Outcome.EXECUTED, b"ok"),
        reply_digest(Outcome.HEARTBEAT, None),
        key.public,
        checkpoint.encode(),
    ]
    assert [code(row[1]) for row in rows("what")] == [value.hex() for value in expected]
    assert checkpoint.note(key.public) in SPEC


def test_keys_are_derived_as_an_independent_hkdf_derives_them():
    secret, salt, context = b"\1" * 32, b"\2" * 32, b"\3" * 16
    info = b"pmap/1 log" + len(context).to_bytes(4, "big") + context
    assert derive_key(secret, salt, b"log", context) == HKDF(SHA256(), 32, salt, info).derive(secret)
    sealed = seal_once(secret, b"mail", b"hello", b"aad", lambda length: b"\x09" * length)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    message_key = HKDFExpand(SHA256(), 32, b"pmap/1 message mail" + b"\x09" * 32).derive(secret)
    assert sealed == b"\x09" * 32 + AESGCM(message_key).encrypt(bytes(12), b"hello", b"aad")
    assert open_once(secret, b"mail", sealed, b"aad") == b"hello"


# --- the threat model -----------------------------------------------------------------------------------------


def test_every_test_that_the_threat_model_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", THREAT_MODEL)
    missing = [f"{path}::{name}" for path, name in named if name not in names_of_tests(ROOT / path)]
    assert named and not missing


def test_every_line_of_the_threat_models_tables_names_a_test():
    tables = re.findall(r"^\| shows \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", THREAT_MODEL, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    assert len(tables) >= 7 and not [line for line in lines if "`tests/" not in line.split("|")[2]]
    assert "planned" not in THREAT_MODEL.lower()


def test_every_promise_of_the_threat_model_has_a_test():
    promises = re.split(r"^### (?=P\d )", THREAT_MODEL, flags=re.MULTILINE)[1:]
    assert [promise[:2] for promise in promises] == [f"P{number}" for number in range(1, 8)]
    assert not [promise[:2] for promise in promises if "`tests/" not in promise]


# --- links and examples ---------------------------------------------------------------------------------------


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(path: Path) -> list[str]:
    text = without_fences(path.read_text(encoding="utf-8"))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path):
    broken = []
    for link in links_of(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_example_compiles(path):
    for example in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        compile(example, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_a_broken_link_and_a_missing_anchor_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](#one-heading) [b](#none) [c](missing.md)\n```\n[d](in-a-fence.md)\n```\n")
    assert links_of(page) == ["#one-heading", "#none", "missing.md"]
    assert anchors_of(page.read_text()) == {"one-heading"}


def test_pictures_are_well_formed():
    from xml.etree import ElementTree

    pictures = sorted(ROOT.glob("docs/**/*.svg"))
    assert pictures
    for picture in pictures:
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
