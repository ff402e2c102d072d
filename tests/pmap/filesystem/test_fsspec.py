"""fsspec's own abstract suite, unmodified, on the persistent filesystem of a store."""

from __future__ import annotations

import pytest
from fsspec.tests import abstract

from host_store import open_store
from pmap.filesystem.fsspec_files import FilesSpec


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("fsspec") / "state", bytes(32), filesystem_size="64m") as store:
        yield store


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, store):
        with store.transaction():
            yield FilesSpec(store.fs)

    @pytest.fixture
    def fs_path(self):
        return "/data"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass
