"""The filesystem against a real one: any calls, aborts and restarts, and the same results and errors."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from file_stores import LoggedFiles
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
SIZES = st.sampled_from([0, 1, 100, 4095, 4096, 4097, 10_000]) | st.integers(0, 20_000)
# Where Linux itself differs from one filesystem to the next, or says more than one error is possible.
ALIKE = {errno.ENOTEMPTY: errno.EEXIST}


class FilesBesideReal(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ours = LoggedFiles()
        self.real = Path(tempfile.mkdtemp(prefix="model-"))
        self.saved: Path | None = None
        self.transaction = None

    @initialize()
    def root(self) -> None:
        (self.real / "root").mkdir()

    def teardown(self) -> None:
        if self.transaction is not None:
            self.leave(False)
        shutil.rmtree(self.real)

    def both(self, real: Callable[[], object], ours: Callable[[], object]) -> None:
        outcomes = []
        for call in (real, ours):
            try:
                outcomes.append(("returned", call()))
            except OSError as error:
                outcomes.append((type(error).__name__, ALIKE.get(error.errno, error.errno)))
        assert outcomes[0] == outcomes[1]

    def at(self, path: str) -> str:
        return str(self.real / "root" / path)

    # --- transactions ---

    @rule()
    def begin(self) -> None:
        if self.transaction is None:
            self.transaction = self.ours.transaction()
            self.transaction.__enter__()
            self.saved = self.real / "saved"
            shutil.copytree(self.real / "root", self.saved)

    @rule(commit=st.booleans())
    def leave(self, commit: bool) -> None:
        if self.transaction is None:
            return
        transaction, self.transaction = self.transaction, None
        saved = self.real / "saved"
        if commit:
            transaction.__exit__(None, None, None)
            shutil.rmtree(saved)
        else:
            error = RuntimeError("aborted")
            transaction.__exit__(RuntimeError, error, None)
            shutil.rmtree(self.real / "root")
            saved.rename(self.real / "root")

    @rule()
    def restart(self) -> None:
        if self.transaction is None:
            self.ours.restart()
        else:  # a crash in the midst of a mail
            self.transaction = None
            self.ours.restart()
            shutil.rmtree(self.real / "root")
            (self.real / "saved").rename(self.real / "root")

    # --- calls ---

    @rule(path=PATHS, size=SIZES, mode=st.sampled_from(["wb", "ab", "xb", "r+b"]), offset=SIZES)
    def write(self, path: str, size: int, mode: str, offset: int) -> None:
        data = os.urandom(size)

        def do(opener, where):
            with opener(where, mode) as file:
                if mode != "ab":
                    file.seek(offset)
                return file.write(data)

        self.both(lambda: do(open, self.at(path)), lambda: do(self.ours.fs.open, path))

    @rule(path=PATHS, size=SIZES)
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda: os.truncate(self.at(path), size), lambda: self.ours.fs.truncate(path, size))

    @rule(path=PATHS)
    def mkdir(self, path: str) -> None:
        self.both(lambda: os.mkdir(self.at(path)), lambda: self.ours.fs.mkdir(path))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda: os.rmdir(self.at(path)), lambda: self.ours.fs.rmdir(path))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda: os.unlink(self.at(path)), lambda: self.ours.fs.unlink(path))

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        self.both(lambda: os.rename(self.at(old), self.at(new)), lambda: self.ours.fs.rename(old, new))

    @rule(path=PATHS)
    def makedirs(self, path: str) -> None:
        self.both(lambda: os.makedirs(self.at(path), exist_ok=True), lambda: self.ours.fs.makedirs(path, exist_ok=True))

    # --- what is there ---

    @invariant()
    def the_trees_are_equal(self) -> None:
        root, fs = self.real / "root", self.ours.fs
        expected = {str(path.relative_to(root)): path.is_dir() or path.read_bytes() for path in root.rglob("*")}
        found = {str(path)[1:]: path.is_dir() or path.read_bytes() for path in fs.path("/").rglob("*")}
        assert found == expected

    @invariant()
    def the_space_is_counted_exactly(self) -> None:
        entries = self.ours.log.entries.live
        blocks = sum(key[:2] == b"\x20\x03" for key in entries)
        inodes = sum(key[:2] == b"\x20\x01" for key in entries)
        state = self.ours.fs.statvfs()
        assert (state.f_blocks - state.f_bfree, state.f_files - state.f_ffree) == (blocks, inodes)


def test_the_filesystem_does_what_a_real_one_does():
    run_state_machine_as_test(FilesBesideReal, settings=settings(max_examples=60, stateful_step_count=40))
