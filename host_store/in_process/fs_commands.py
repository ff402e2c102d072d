"""``pmap fs`` and ``pmap mount``: the files of an embedded store, for the person who holds its key.

The commands open the store in this process, so no enclave may be running on it; a store that an enclave in a real TEE
made cannot be opened here at all, because its key never leaves the TEE.
"""

from __future__ import annotations

import shutil
import stat as stat_bits
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from host_store.in_process.embedded_store import EmbeddedStore, open_store
from pmap.filesystem.filesystem import FileSystem
from wire.crypto import KEY_BYTES
from wire.errors import InvalidInput
from wire.sizes import format_size

C = TypeVar("C", bound=Callable[..., Any])
_COPY_BYTES = 1 << 20


def store_options(command: C) -> C:
    """The options that name a store, its key and how new it has to be."""
    options = (
        click.option(
            "--store",
            "path",
            type=click.Path(path_type=Path, file_okay=False),
            required=True,
            help="The store's folder.",
        ),
        click.option(
            "--key-file",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            required=True,
            help=f"A file with the key: {KEY_BYTES} bytes, or twice as many hexadecimal digits.",
        ),
        click.option(
            "--checkpoint",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Refuse a store that is older than this file says; afterwards the file is brought up to date.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def opened(path: Path, key_file: Path, checkpoint: Path | None, **settings: Any) -> Iterator[EmbeddedStore]:
    """The store that the options name."""
    expect = checkpoint.read_text(encoding="utf-8") if checkpoint is not None and checkpoint.exists() else None
    with open_store(path, read_key(key_file), expect=expect, **settings) as store:
        try:
            yield store
        finally:
            if checkpoint is not None:
                # By renaming: a half-written checkpoint would lock the store's owner out.
                aside = checkpoint.with_name(checkpoint.name + ".new")
                aside.write_text(store.checkpoint, encoding="utf-8")
                aside.replace(checkpoint)


def read_key(path: Path) -> bytes:
    """The key in a file. Raises :class:`InvalidInput`."""
    data = path.read_bytes()
    if len(data) != KEY_BYTES:
        try:
            data = bytes.fromhex(data.decode("ascii").strip())
        except ValueError:
            data = b""
    if len(data) != KEY_BYTES:
        raise InvalidInput(f"'{path}' holds no key: {KEY_BYTES} bytes, or {2 * KEY_BYTES} hexadecimal digits")
    return data


@click.group()
def fs() -> None:
    """Look at and change the files of an embedded store."""


@fs.command()
@store_options
@click.option("-l", "long", is_flag=True, help="With mode, size and time.")
@click.argument("where", default="/")
def ls(path: Path, key_file: Path, checkpoint: Path | None, long: bool, where: str) -> None:
    """List a directory, or name a file."""
    with opened(path, key_file, checkpoint, create=False) as store:
        names = store.fs.listdir(where) if store.fs.isdir(where) else [where]
        for name in names:
            place = name if name == where else where.rstrip("/") + "/" + name
            click.echo(_long_line(store.fs, place, name) if long else name)


@fs.command()
@store_options
@click.argument("where", default="/")
def tree(path: Path, key_file: Path, checkpoint: Path | None, where: str) -> None:
    """Show everything below a directory, and how full the filesystem is."""
    with opened(path, key_file, checkpoint, create=False) as store:
        click.echo(where)
        _show_tree(store.fs, where, "")
        state = store.fs.statvfs(where)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        click.echo(f"\n{format_size(used)} of {format_size(state.f_blocks * state.f_frsize)} bytes used")


@fs.command()
@store_options
@click.argument("where")
def cat(path: Path, key_file: Path, checkpoint: Path | None, where: str) -> None:
    """Write a file's content to standard output."""
    with opened(path, key_file, checkpoint, create=False) as store, store.fs.open(where, "rb") as source:
        shutil.copyfileobj(source, sys.stdout.buffer, _COPY_BYTES)
        sys.stdout.buffer.flush()


@fs.command()
@store_options
@click.option("--size", help="Make the filesystem if there is none, of this size: bytes, or a number with k, m or g.")
@click.option("--grow", is_flag=True, help="Let --size make an existing filesystem larger.")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("where")
def put(
    path: Path, key_file: Path, checkpoint: Path | None, size: str | None, grow: bool, source: Path, where: str
) -> None:
    """Copy a file or folder of this machine into the store, all in one commit."""
    with (
        opened(path, key_file, checkpoint, create=size is not None, filesystem_size=size, grow=grow) as store,
        store.transaction(),
    ):
        for each in [source, *sorted(source.rglob("*"))]:
            target = where if each == source else f"{where.rstrip('/')}/{each.relative_to(source)}"
            if each.is_dir():
                store.fs.makedirs(target, exist_ok=True)
            else:
                with each.open("rb") as reader, store.fs.open(target, "wb") as writer:
                    shutil.copyfileobj(reader, writer, _COPY_BYTES)
                store.fs.utime(target, ns=(0, each.stat().st_mtime_ns))


@fs.command()
@store_options
@click.argument("where")
@click.argument("target", type=click.Path(path_type=Path))
def get(path: Path, key_file: Path, checkpoint: Path | None, where: str, target: Path) -> None:
    """Copy a file or directory of the store to this machine."""
    with opened(path, key_file, checkpoint, create=False) as store:
        if not store.fs.isdir(where):
            _fetch(store.fs, where, target / Path(where).name if target.is_dir() else target)
            return
        for base, _, names in store.fs.walk(where):
            folder = target / base[len(where.rstrip("/")) :].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                _fetch(store.fs, f"{base.rstrip('/')}/{name}", folder / name)


@click.command()
@store_options
@click.argument("mount_point", type=click.Path(path_type=Path, file_okay=False, exists=True))
def mount(path: Path, key_file: Path, checkpoint: Path | None, mount_point: Path) -> None:
    """Show a store's files at a directory, through FUSE, until it is unmounted.

    For development: whoever can read the mount point reads the files.
    """
    try:
        from host_store.in_process import fuse_mount
    except (ImportError, OSError) as error:
        raise click.ClickException(f"FUSE is missing ({error}): install pmap[fuse] and the system's fuse3") from error
    with opened(path, key_file, checkpoint, create=False) as store:
        click.echo(f"mounted at {mount_point}; end with: fusermount3 -u {mount_point}", err=True)
        fuse_mount.mount(store.fs, mount_point)


def _long_line(files: FileSystem, place: str, name: str) -> str:
    state = files.stat(place)
    time = datetime.fromtimestamp(state.st_mtime).astimezone()
    return f"{stat_bits.filemode(state.st_mode)} {state.st_size:>12} {time:%Y-%m-%d %H:%M} {name}"


def _show_tree(files: FileSystem, place: str, margin: str) -> None:
    entries = list(files.scandir(place))
    for entry in entries:
        last = entry is entries[-1]
        click.echo(f"{margin}{'└── ' if last else '├── '}{entry.name}{'/' if entry.is_dir() else ''}")
        if entry.is_dir():
            _show_tree(files, entry.path, margin + ("    " if last else "│   "))


def _fetch(files: FileSystem, where: str, target: Path) -> None:
    with files.open(where, "rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, _COPY_BYTES)
