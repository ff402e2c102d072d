"""What a malicious host does to the bytes of its store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from host_store.adversary.folder_medium import FolderMedium
from host_store.adversary.medium import Medium
from host_store.adversary.snapshot import flip_byte
from wire.errors import InvalidInput


class Damage:
    """A part of :class:`host_store.adversary.MaliciousHost`. Each change ends the enclave and starts it on what is then
    there; each method raises what keeps the enclave from starting."""

    @abstractmethod
    def _change(self, change: Callable[[Medium], None]) -> None:
        """End the enclave, change the store, start again."""

    def flip(self, n: int, byte: int, mask: int = 1) -> None:
        """Turn bits of one byte of record ``n`` over (counted from its end, if negative)."""
        self._change(lambda medium: medium.put_record(n, flip_byte(medium.read_record(n), byte, mask)))

    def truncate(self, n: int, length: int) -> None:
        """Cut record ``n`` off."""
        self._change(lambda medium: medium.put_record(n, medium.read_record(n)[:length]))

    def swap_records(self, a: int, b: int) -> None:
        """Exchange two records."""

        def change(medium: Medium) -> None:
            first, second = medium.read_record(a), medium.read_record(b)
            medium.put_record(a, second)
            medium.put_record(b, first)

        self._change(change)

    def splice(self, n: int, record: bytes) -> None:
        """Put another record in the place of record ``n``."""
        self._change(lambda medium: medium.put_record(n, record))

    def delete_record(self, n: int) -> None:
        """Take record ``n`` out."""
        self._change(lambda medium: medium.put_record(n, None))

    def replace_keyring(self, keyring: bytes | None) -> None:
        """Put another keyring in the store, or none."""
        self._change(lambda medium: medium.put_keyring(keyring))

    def change_file(self, change: Callable[[bytes], bytes], journal: Callable[[bytes], bytes] | None = None) -> None:
        """Change the bytes of LMDB's data file, perhaps those of the journal as well. (It has no say after a close.)"""

        def write(medium: Medium) -> None:
            if not isinstance(medium, FolderMedium):
                raise InvalidInput("this store is in no file")
            medium.change_files(change, journal)

        self._change(write)
