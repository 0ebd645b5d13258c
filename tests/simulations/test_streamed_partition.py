"""Streaming gives the pool that loading everything gives, and holds only a part at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.site_data import load_site
from common.config import DataConfig
from common.errors import DataError
from common.site_folder import interaction_table, user_table, write_catalogue
from simulations.datasets import load_folder
from simulations.partition import write_pool
from simulations.site_layout import write_sites
from simulations.streamed_partition import can_be_streamed, stream_pool
from simulations.synthetic import synthetic_dataset
from tests.common.test_pooled_sites import assert_same_site

DATA = synthetic_dataset(users=80)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The data in any order, with repeats, unknown items and a short user."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = np.random.default_rng(0).permutation(len(DATA.interactions))
    table = interaction_table(DATA.interactions, DATA.catalogue, rows)
    strange = pa.table(
        {
            "user_id": ["x", "x", "x", "1"],
            "item_id": ["zz", "zz", "1", "zz"],
            "rating": pa.array([1, 1, 1, 1], pa.float32()),
            "timestamp": pa.array([1, 2, 3, 4]),
        }
    )
    both = pa.concat_tables([table, table.slice(0, 50), strange])
    both = both.rename_columns(["userId", "item_id", "rating", "timestamp"])
    pq.write_table(both, folder / "interactions.parquet")
    pq.write_table(user_table(DATA.users, np.arange(80)), folder / "users.parquet")
    write_catalogue(folder / "items.parquet", DATA.catalogue)
    (folder / "columns.toml").write_text('[interactions]\nuser_id = "userId"\n')
    return folder


def config(source: Path, **values: object) -> DataConfig:
    return DataConfig(dataset=str(source), **{"sites": 9, **values})


@pytest.mark.parametrize("bucket_rows", [1, 300, 10**9])
@pytest.mark.parametrize(
    "partition",
    [
        {"partition": "equal", "sites": 80},
        {"partition": "dirichlet"},
        {"partition": "dirichlet", "partition_by": "gender"},
        {"partition": "size_skewed", "split": "last_fifth"},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_a_streamed_pool_is_that_of_loaded_data(
    source: Path, tmp_path: Path, partition: dict[str, object], bucket_rows: int
) -> None:
    asked = config(source, **partition)
    stream_pool(asked, tmp_path / "streamed", bucket_rows=bucket_rows)
    write_pool(load_folder(source, 3), asked, tmp_path / "loaded")
    for number in range(asked.sites):
        name = f"site-{number:04d}"
        streamed, loaded = (load_site(tmp_path / f / name) for f in ("streamed", "loaded"))
        assert_same_site(streamed, loaded)
    assert [p.name for p in (tmp_path / "streamed").iterdir() if p.is_dir()] != []
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "tmp"))]


def test_a_wrong_value_is_one_line_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    table = pq.read_table(source / "interactions.parquet")
    bad = table.set_column(3, "timestamp", pa.array([-1] * table.num_rows))
    pq.write_table(bad, source / "interactions.parquet")
    with pytest.raises(DataError, match="be non-negative unix seconds") as caught:
        stream_pool(config(source), tmp_path / "sites", bucket_rows=300)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("least", "match"), [(3, "userId"), (500, "no user has 500 usable interactions")]
)
def test_what_cannot_be_used_is_said(source: Path, tmp_path: Path, least: int, match: str) -> None:
    if least == 3:
        (source / "columns.toml").unlink()
        match = "missing column user_id"
    with pytest.raises(DataError, match=match):
        stream_pool(config(source, min_interactions=least), tmp_path / "sites")


def test_a_damaged_file_is_one_line(source: Path, tmp_path: Path) -> None:
    (source / "interactions.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        stream_pool(config(source), tmp_path / "sites")


def test_pooled_parquet_is_streamed_and_everything_else_loaded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.site_layout as site_layout

    def never(*_given: object, **_named: object) -> None:
        raise AssertionError("the data set was loaded")

    assert can_be_streamed(str(source))
    assert not can_be_streamed("synthetic")
    monkeypatch.setattr(site_layout, "load_dataset", never)
    write_sites(config(source), tmp_path / "sites", pooled=True)
    assert (tmp_path / "sites" / "pool.json").is_file()
    with pytest.raises(AssertionError, match="loaded"):
        write_sites(config(source), tmp_path / "other")
    monkeypatch.undo()
    write_sites(config(source), tmp_path / "other")
    assert (tmp_path / "other" / "sites.json").is_file()
    monkeypatch.setattr(site_layout, "POOLED_ABOVE", 8)
    shutil.rmtree(tmp_path / "other")
    write_sites(config(source), tmp_path / "other")
    assert (tmp_path / "other" / "pool.json").is_file()
