"""pandas, Arrow and DuckDB read and write Parquet and CSV in the files of a store, through fsspec."""

from __future__ import annotations

import duckdb
import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from file_stores import LoggedFiles

from pmap.filesystem.fsspec_files import FilesSpec
from wire.errors import InvalidInput

FRAME = pd.DataFrame({"name": ["alice", "bob", "carol"] * 1000, "balance": range(3000)})


@pytest.fixture
def stored() -> LoggedFiles:
    return LoggedFiles()


@pytest.fixture
def options(stored) -> dict[str, object]:
    return {"files": stored.fs}


def test_the_protocol_is_registered_and_needs_to_be_told_whose_files(stored, options):
    assert isinstance(fsspec.filesystem("pmap", **options), FilesSpec)
    with fsspec.open("pmap:///d/f.txt", "wt", **options) as file:
        file.write("text")
    assert stored.fs.read_bytes("/d/f.txt") == b"text"
    with pytest.raises(InvalidInput, match="storage_options"):
        fsspec.filesystem("pmap")


def test_pandas_reads_and_writes_csv_and_parquet(stored, options):
    with stored.transaction():
        FRAME.to_csv("pmap:///a.csv", index=False, storage_options=options)
        FRAME.to_parquet("pmap:///d/a.parquet", storage_options=options)
    stored.restart()
    options["files"] = stored.fs
    pd.testing.assert_frame_equal(pd.read_csv("pmap:///a.csv", storage_options=options), FRAME)
    pd.testing.assert_frame_equal(pd.read_parquet("pmap:///d/a.parquet", storage_options=options), FRAME)


def test_arrow_reads_and_writes_csv_parquet_and_datasets(stored):
    files = FilesSpec(stored.fs)
    table = pa.Table.from_pandas(FRAME)
    with stored.transaction():
        pq.write_table(table, "/a.parquet", filesystem=files)
        with files.open("/a.csv", "wb") as file:
            pyarrow.csv.write_csv(table, file)
        pyarrow.dataset.write_dataset(
            table, "/set", filesystem=files, format="parquet", partitioning=["name"], existing_data_behavior="error"
        )
    stored.restart()
    files = FilesSpec(stored.fs)
    assert pq.read_table("/a.parquet", filesystem=files, columns=["balance"]).num_rows == 3000
    with files.open("/a.csv", "rb") as file:
        assert pyarrow.csv.read_csv(file).to_pydict() == table.to_pydict()
    found = pyarrow.dataset.dataset("/set", filesystem=files, format="parquet", partitioning=["name"])
    assert found.to_table(filter=pyarrow.dataset.field("name") == "bob").num_rows == 1000


def test_duckdb_reads_and_writes_csv_and_parquet(stored):
    db = duckdb.connect()
    db.register_filesystem(FilesSpec(stored.fs))
    db.register("frame", FRAME)
    with stored.transaction():
        for kind in ("csv", "parquet"):
            db.execute(f"COPY (SELECT * FROM frame) TO 'pmap:///out.{kind}' (FORMAT {kind})")
    for kind in ("csv", "parquet"):
        query = f"SELECT name, sum(balance) FROM 'pmap:///out.{kind}' GROUP BY name ORDER BY name"
        assert db.execute(query).fetchall() == list(FRAME.groupby("name")["balance"].sum().items())
    assert db.execute("SELECT count(*) FROM 'pmap:///*.parquet'").fetchall() == [(3000,)]
    db.close()
