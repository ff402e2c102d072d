"""The lock file pins everything by version and hash, and nothing in the project says where packages come from."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
TPM_LOCK = ROOT / "requirements-tpm.lock"
LOCKS = [LOCK, TPM_LOCK]
BUILT_FROM_SOURCE = "tpm"
"""The one extra that not every machine can install: it has a lock file of its own."""

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: ?;[^\\]*)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
COMMENT = re.compile(r"^ *#")

# Written in two halves, so that this file does not hold what it looks for.
INDEX_HOSTS = [
    first + second
    for first, second in (
        ("pypi", ".org"),
        ("pypi.python", ".org"),
        ("python", "hosted.org"),
        ("anaconda", ".org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("yarnpkg", ".com"),
        ("crates", ".io"),
        ("proxy.golang", ".org"),
        ("debian", ".org/debian"),
        ("ubuntu", ".com/ubuntu"),
    )
]
INDEX_OPTION = re.compile(r"(index-url|find-links|trusted-host|registry)[\"']?\s*[= :]\s*[\"']?\w*:?/" + "/")


def read_lock(path: Path = LOCK) -> tuple[dict[str, Version], dict[str, int], list[str]]:
    """A lock file's pins, how many hashes each has, and every line that is neither pin, hash nor comment."""
    pins: dict[str, Version] = {}
    hashes: dict[str, int] = {}
    strange: list[str] = []
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := PIN.match(line):
            name = canonicalize_name(pin[1])
            if name in pins:
                strange.append(line)
            pins[name] = Version(pin[2])
            hashes[name] = 0
        elif HASH.match(line) and name:
            hashes[name] += 1
        elif line and not COMMENT.match(line):
            strange.append(line)
    return pins, hashes, strange


def declared_requirements(lock: Path) -> list[Requirement]:
    """All that pyproject.toml asks for and this lock file pins: the core, the extras, the build backend."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = [
        line
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
        if (extra == BUILT_FROM_SOURCE) == (lock == TPM_LOCK)
    ]
    if lock == TPM_LOCK:
        return [Requirement(line) for line in extras]
    return [Requirement(line) for line in [*project["dependencies"], *extras, *pyproject["build-system"]["requires"]]]


def project_files() -> list[Path]:
    """Every file that git tracks or would add."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no telling which files are the project's")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def index_addresses_in(text: str) -> list[str]:
    """What in ``text`` names a package index."""
    found = [host for host in INDEX_HOSTS if host in text.lower()]
    return found + [match[0] for match in INDEX_OPTION.finditer(text.lower())]


every_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)


@every_lock
def test_every_declared_requirement_is_pinned_at_a_version_that_it_allows(lock: Path) -> None:
    pins, _, _ = read_lock(lock)
    unmet = [
        str(requirement)
        for requirement in declared_requirements(lock)
        if (pinned := pins.get(canonicalize_name(requirement.name))) is None or pinned not in requirement.specifier
    ]
    assert unmet == []


def test_the_lock_files_agree() -> None:
    pins, tpm_pins = read_lock(LOCK)[0], read_lock(TPM_LOCK)[0]
    assert {name: pin for name, pin in tpm_pins.items() if pins.get(name, pin) != pin} == {}


@every_lock
def test_every_pin_has_hashes(lock: Path) -> None:
    pins, hashes, _ = read_lock(lock)
    assert pins, "an empty lock file pins nothing"
    assert [name for name, count in hashes.items() if count == 0] == []


@every_lock
def test_the_lock_file_holds_pins_hashes_and_comments_only(lock: Path) -> None:
    _, _, strange = read_lock(lock)
    assert strange == []


@every_lock
def test_the_lock_file_names_no_address_and_no_path_of_a_machine(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert re.findall(r"\S*(?::/" + r"/|file:/|@ )\S*", text) == []
    assert re.findall(r"(?:^|[\s\"'=])~?/\S+", text) == []


@pytest.mark.parametrize(
    "text",
    [
        *(f"see {host.upper()} for it" for host in INDEX_HOSTS),
        "--extra-index-url=https:/" + "/mirror.example/simple",
        "index-url = http:/" + "/10.0.0.1/simple",
        "find-links = file:/" + "//srv/wheels",
    ],
)
def test_an_index_address_is_recognized(text: str) -> None:
    assert index_addresses_in(text) != []


def test_no_file_of_the_project_names_a_package_index() -> None:
    files = project_files()
    assert LOCK in files
    named = {
        str(path.relative_to(ROOT)): found
        for path in files
        if (found := index_addresses_in(path.read_bytes().decode("utf-8", errors="replace")))
    }
    assert named == {}
