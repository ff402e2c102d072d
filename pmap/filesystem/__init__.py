"""Files inside the enclave, kept in the same log as the map: one transaction, one freshness, one hiding."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmap.filesystem.filesystem import FileSystem
    from pmap.filesystem.paths import FilePath
    from pmap.filesystem.setup import memory_filesystem

__all__ = ["FilePath", "FileSystem", "memory_filesystem"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: an enclave without files starts sooner without the code for them (PEP 562).
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pmap.filesystem import filesystem, paths, setup

    return next(vars(place)[name] for place in (filesystem, paths, setup) if name in vars(place))
