"""From settings to a filesystem: which volumes there are and where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from pmap.entries import Entries
from pmap.filesystem.clock import Clock, system_clock
from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.mounts import Mounts
from pmap.filesystem.settings import FilesystemSettings
from pmap.filesystem.volume import Autocommit, Volume, prepare_volume, stored_size
from wire.errors import InvalidInput
from wire.limits import MAX_CONFIGURED_SIZE_BYTES


def mount(
    entries: Entries,
    settings: FilesystemSettings,
    *,
    clock: Clock = system_clock,
    autocommit: Autocommit | None = None,
    sync: Callable[[], None] | None = None,
) -> FileSystem | None:
    """The filesystem that the settings ask for, or None; it follows the transactions of ``entries``.

    Args:
        autocommit: makes the transaction for one call outside a transaction; None: such calls are refused.
        sync: stores what the disk refused earlier, for :meth:`FileSystem.fsync`.

    Raises:
        InvalidInput: the entries have a filesystem of another size.
        CorruptedStore, UnsupportedVersion: its superblock or an inode is of an unknown layout.
    """
    volumes = []
    if settings.persistent:
        prepare_volume(entries, settings.persistent, clock, grow=settings.grow)
        volumes.append(Volume(entries, clock, autocommit=autocommit))
    if settings.memory:
        volumes.append(_memory_volume(settings.memory, clock, entries, autocommit is not None))
    if not volumes:
        return None
    filesystem = FileSystem(Mounts(*volumes), sync=sync)
    entries.join(filesystem)
    return filesystem


def check_stored(entries: Entries, settings: FilesystemSettings) -> None:
    """Raises :class:`InvalidInput` if the entries have a filesystem and the settings have none."""
    stored = stored_size(entries)
    if stored is not None and not settings.persistent:
        raise InvalidInput(f"the store has a filesystem of {stored} bytes, but the settings have none")


def memory_filesystem(size: str | int, *, clock: Clock = system_clock) -> FileSystem:
    """A filesystem in memory alone: nothing of it is ever stored. Raises :class:`InvalidInput`."""
    settings = FilesystemSettings.parse(0, size)
    filesystem = mount(Entries(), settings, clock=clock, autocommit=nullcontext)
    if filesystem is None:
        raise InvalidInput("a filesystem of 0 bytes")
    return filesystem


def _memory_volume(size: int, clock: Clock, outer: Entries, autocommits: bool) -> Volume:
    # What is written stays in memory, so no record bounds it; the volume's own size does.
    entries = Entries(max_transaction_bytes=2 * MAX_CONFIGURED_SIZE_BYTES)
    prepare_volume(entries, size, clock)
    entries.take_changes()

    @contextmanager
    def one_call() -> Iterator[None]:
        with entries.transaction(single=True):
            yield
        entries.take_changes()

    return Volume(entries, clock, outer=outer, autocommit=one_call if autocommits else None)
