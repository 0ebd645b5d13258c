"""A pooled site is the same site as in a folder of its own, whatever the partition."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulations.pool_writer as pool_writer
from client.peers import simulated_peers
from client.site_data import SiteData, declared_name, load_site
from common.config import DataConfig
from common.errors import DataError
from common.privacy_units import make_units
from simulations.partition import write_pool, write_site_folders
from simulations.synthetic import synthetic_dataset

DATA = synthetic_dataset(users=40)


def assert_same_site(left: SiteData, right: SiteData) -> None:
    for name in ("site", "declared_units", "declared_examples", "simulated", "users", "report"):
        assert getattr(left, name) == getattr(right, name)
    assert left.catalogue.sha256 == right.catalogue.sha256
    assert left.interactions.user_ids == right.interactions.user_ids
    for name in ("user", "item", "rating", "timestamp"):
        a, b = getattr(left.interactions, name), getattr(right.interactions, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    mine, theirs = (
        make_units(site.splits("last_fifth", 1), max_history=20) for site in (left, right)
    )
    assert [(u.user_id, u.items.tolist(), u.ratings.tolist()) for u in mine] == [
        (u.user_id, u.items.tolist(), u.ratings.tolist()) for u in theirs
    ]


@settings(max_examples=12, deadline=None)
@given(
    sites=st.integers(1, 40),
    partition=st.sampled_from(["equal", "dirichlet", "size_skewed"]),
    split=st.sampled_from(["leave_one_out", "last_fifth"]),
    rows=st.integers(1, 900),
    seed=st.integers(0, 9),
)
def test_each_site_is_that_of_its_own_folder(
    sites: int, partition: str, split: str, rows: int, seed: int
) -> None:
    config = DataConfig(
        dataset="synthetic", sites=sites, partition=partition, split=split, seed=seed
    )
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_writer, "ROW_GROUP_ROWS", rows)
        folders = write_site_folders(DATA, config, Path(scratch) / "folders")
        write_pool(DATA, config, Path(scratch) / "pool")
        for folder in folders:
            pooled = Path(scratch) / "pool" / folder.name
            assert_same_site(load_site(folder), load_site(pooled))
            assert declared_name(pooled) == declared_name(folder)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    write_pool(DATA, DataConfig(dataset="synthetic", sites=8), tmp_path / "pool")
    return tmp_path / "pool"


def test_a_site_gets_its_folder_when_it_is_asked(pool: Path) -> None:
    files = ["index.npy", "interactions.parquet", "items.parquet", "pool.json", "users.parquet"]
    assert sorted(path.name for path in pool.iterdir()) == files
    load_site(pool / "site-0003")
    assert sorted(path.name for path in pool.iterdir()) == sorted([*files, "site-0003"])


def test_a_site_with_a_manifest_of_its_own_is_never_a_pooled_one(pool: Path) -> None:
    config = DataConfig(dataset="synthetic", sites=2)
    alone = write_site_folders(DATA, config, pool.parent / "two")[1]
    moved = alone.rename(pool / "site-0001")
    (pool.parent / "two" / "items.parquet").rename(moved / "items.parquet")
    assert len(load_site(moved).interactions.user_ids) == 20  # half of the users, not an eighth


def test_a_site_is_read_from_its_own_row_group_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_writer, "ROW_GROUP_ROWS", 60)
    write_pool(DATA, DataConfig(dataset="synthetic", sites=20), tmp_path / "pool")
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, **options: object) -> object:
        read.append(whole(self, group, **options).num_rows)
        return whole(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    site = load_site(tmp_path / "pool" / "site-0011")
    assert len(read) == 2
    assert len(site.interactions) <= read[0] <= max(60, len(site.interactions))


@pytest.mark.parametrize("name", ["site-0008", "site-8", "site-00003", "ours", "site--001"])
def test_there_is_no_other_site(pool: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"holds no .*its sites are site-0000 to site-0007"):
        load_site(pool / name)
    assert not (pool / name).exists()


@pytest.mark.parametrize("name", ["index.npy", "interactions.parquet", "users.parquet"])
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_damage_is_one_line(pool: Path, name: str, content: bytes | None) -> None:
    (pool / name).unlink()
    if content is not None:
        (pool / name).write_bytes(content)
    with pytest.raises(DataError, match="make the folder anew") as caught:
        load_site(pool / "site-0000")
    assert "\n" not in str(caught.value)


def test_an_index_of_another_pool_is_refused(pool: Path, tmp_path: Path) -> None:
    write_pool(DATA, DataConfig(dataset="synthetic", sites=5), tmp_path / "other")
    (tmp_path / "other" / "index.npy").replace(pool / "index.npy")
    with pytest.raises(DataError, match=r"index\.npy: does not fit the 8 sites"):
        load_site(pool / "site-0000")


def test_a_pool_that_was_made_anew_is_read_anew(pool: Path) -> None:
    before = load_site(pool / "site-0000")
    (pool / "site-0000").rmdir()
    write_pool(DATA, DataConfig(dataset="synthetic", sites=2), pool)
    assert len(load_site(pool / "site-0000").interactions) > len(before.interactions)


def test_a_ledger_in_a_pooled_site_is_never_replaced(pool: Path) -> None:
    (pool / "site-0002").mkdir()
    (pool / "site-0002" / "ledger.sqlite").write_text("spent")
    with pytest.raises(DataError, match=r"holds site-0002/ledger\.sqlite"):
        write_pool(DATA, DataConfig(dataset="synthetic", sites=2), pool)


def test_pooled_sites_find_their_peers(pool: Path) -> None:
    peers = simulated_peers(pool / "site-0001")
    assert sorted(peers) == [f"site-{n:04d}" for n in range(8)]
    assert len(set(peers.values())) == 8
