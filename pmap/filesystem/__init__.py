"""Files inside the enclave, kept in the same log as the map: one transaction, one freshness, one hiding."""

from pmap.filesystem.filesystem import FileSystem
from pmap.filesystem.paths import FilePath
from pmap.filesystem.setup import memory_filesystem

__all__ = ["FilePath", "FileSystem", "memory_filesystem"]
