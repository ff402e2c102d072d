"""``pmap fs`` and ``pmap mount``, as people use them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from host_store import open_store
from host_store.cli import main
from host_store.in_process import fs_commands

FUSE = os.path.exists("/dev/fuse") and shutil.which("fusermount3") is not None


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "key").write_text(bytes(32).hex() + "\n")
    (tmp_path / "source/sub").mkdir(parents=True)
    (tmp_path / "source/a").write_bytes(b"hello\n")
    (tmp_path / "source/sub/b").write_bytes(bytes(range(256)) * 1000)
    return tmp_path


def fs(place: Path, command: str, *arguments: object) -> Result:
    options = ["--store", str(place / "state"), "--key-file", str(place / "key"), "--checkpoint", str(place / "seen")]
    return CliRunner().invoke(fs_commands.fs, [command, *options, *map(str, arguments)])


def test_put_ls_cat_tree_get(place):
    assert fs(place, "put", "--size", "4m", place / "source", "/data").exit_code == 0
    assert fs(place, "ls", "/data").output == "a\nsub\n"
    assert fs(place, "cat", "/data/a").stdout_bytes == b"hello\n"
    assert fs(place, "ls", "-l", "/data/a").output.startswith("-rw-r--r--            6 ")
    assert fs(place, "tree").output.splitlines()[:5] == ["/", "└── data/", "    ├── a", "    └── sub/", "        └── b"]
    assert fs(place, "get", "/data", place / "out").exit_code == 0
    assert subprocess.run(["diff", "-r", place / "source", place / "out"], check=False).returncode == 0
    assert fs(place, "get", "/data/a", place / "one").exit_code == 0
    assert (place / "one").read_bytes() == b"hello\n"


def test_put_is_one_commit_and_grows_when_asked(place):
    fs(place, "put", "--size", "64k", place / "source/a", "/a")
    assert isinstance(fs(place, "put", place / "source", "/data").exception, OSError)
    assert fs(place, "ls").output == "a\n"
    assert fs(place, "put", "--size", "4m", "--grow", place / "source", "/data").exit_code == 0
    assert fs(place, "ls").output == "a\ndata\n"


def test_an_older_store_is_refused_by_the_kept_checkpoint(place):
    fs(place, "put", "--size", "1m", place / "source/a", "/a")
    shutil.copytree(place / "state", place / "old")
    fs(place, "put", place / "source/a", "/b")
    shutil.rmtree(place / "state")
    (place / "old").rename(place / "state")
    result = CliRunner().invoke(
        main, ["fs", "ls", "--store", str(place / "state"), "--key-file", str(place / "key"),
               "--checkpoint", str(place / "seen")]
    )  # fmt: skip
    assert result.exit_code == 3
    assert "taken back to an older state" in result.output


def test_what_is_no_key_and_no_store_is_said(place):
    (place / "key").write_bytes(b"short")
    assert "holds no key" in str(fs(place, "ls").exception)
    (place / "key").write_bytes(bytes(32))
    assert "no store" in str(fs(place, "ls").exception)


@pytest.mark.skipif(not FUSE, reason="FUSE needs /dev/fuse and the Debian package fuse3")
def test_a_mounted_store_is_a_folder_for_ordinary_tools(place):
    fs(place, "put", "--size", "4m", place / "source", "/data")
    (place / "m").mkdir()
    options = ["--store", str(place / "state"), "--key-file", str(place / "key")]
    mounted = subprocess.Popen(
        [sys.executable, "-m", "host_store.cli", "mount", *options, str(place / "m")], stderr=subprocess.DEVNULL
    )
    try:
        while not os.path.ismount(place / "m"):
            assert mounted.poll() is None, "the mount ended by itself"
            time.sleep(0.05)
        script = """
            set -e
            diff -r source m/data
            cp source/sub/b m/copied && cmp source/sub/b m/copied
            echo more >> m/data/a && test "$(cat m/data/a)" = "$(printf 'hello\\nmore')"
            mkdir m/new && mv m/copied m/new/moved && rm m/data/sub/b && rmdir m/data/sub
            touch -d @1000000000 m/new/moved && test "$(stat -c %Y m/new/moved)" = 1000000000
            chmod 600 m/new/moved && test "$(stat -c %a m/new/moved)" = 600
            truncate -s 10 m/new/moved
            if dd if=/dev/zero of=m/full bs=1M count=8 2>/dev/null; then exit 1; fi
            rm m/full
            if rmdir m/new 2>/dev/null; then exit 1; fi
        """
        done = subprocess.run(["bash", "-c", script], cwd=place, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        subprocess.run(["fusermount3", "-u", place / "m"], check=True)
        assert mounted.wait(30) == 0
    with open_store(place / "state", bytes(32)) as store:
        assert store.fs.read_bytes("/data/a") == b"hello\nmore\n"
        assert store.fs.read_bytes("/new/moved") == bytes(range(10))
        assert store.fs.listdir("/data") == ["a"]
