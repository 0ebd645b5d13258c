"""Item vectors: read and refused, part of the catalogue, and what the score makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.errors import ConfigError, DataError
from common.interactions import Catalogue, build_catalogue
from common.item_index import build_index
from common.item_vectors import ItemVectors, checked_vectors, read_item_vectors
from common.site_folder import write_catalogue
from common.table_readers import read_table
from common.whitening import fit_whitening
from tests.training_case import DATASET, small_config

PLAIN = DATASET.catalogue
GROUP = np.arange(len(PLAIN)) % 4
VALUES = np.eye(4)[GROUP] + 0.01 * np.random.default_rng(0).normal(size=(len(PLAIN), 4))
VECTORS = checked_vectors(PLAIN.item_ids, list(VALUES), "here")
CATALOGUE = replace(PLAIN, vectors=VECTORS)
IDS = ("a", "b", "c")
GOOD = np.arange(6.0).reshape(3, 2)


def reading(weight: float, sha256: str = VECTORS.sha256) -> RunConfig:
    return small_config({"item_vectors_weight": weight, "item_vectors_sha256": sha256})


def npz(path: Path, ids: object = IDS, vectors: object = GOOD) -> Path:
    np.savez(path / "v.npz", item_id=np.array(ids), vectors=np.array(vectors))
    return path / "v.npz"


def test_rows_are_found_by_id_in_either_kind_of_file(tmp_path: Path) -> None:
    table = pa.table({"item_id": list(IDS), "item_vector": GOOD.tolist()})
    pq.write_table(table, tmp_path / "v.parquet")
    for path in (npz(tmp_path), tmp_path / "v.parquet"):
        found = read_item_vectors(path, ("c", "a"))
        np.testing.assert_array_equal(found.values, [[4, 5], [0, 1]])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ids": ("a", "b", "x")}, "no vector for 1 of 3 items, the first is 'c'"),
        ({"ids": ("a", "b", "c", "a"), "vectors": np.ones((4, 2))}, "item 'a' has two vectors"),
        ({"vectors": [[0.0, 1.0], [np.nan, 1.0], [2.0, 3.0]]}, "item 'b' must be of finite"),
        ({"vectors": np.full((3, 2), 1e39)}, "item 'a' must be of finite"),
        ({"vectors": np.ones((3, 2))}, "all vectors are the same"),
        ({"vectors": np.ones((3, 0))}, "must have 1 to 4096 numbers, got 0"),
        ({"vectors": np.ones((2, 2))}, "item_id must be"),
        ({"vectors": np.array([["x", "y"]] * 3)}, "what is no number"),
    ],
)
def test_a_wrong_file_is_told_in_a_line(
    tmp_path: Path, wrong: Mapping[str, object], told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_item_vectors(npz(tmp_path, **wrong), IDS)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", GOOD)
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "other.npz", item_id=np.array(IDS))
    for name, told in {
        "v.npy": "names no items",
        "bad.npz": "no .npz file",
        "other.npz": "must hold arrays",
        "none.npz": "no such file",
        "v.txt": "must be a .npz or .parquet",
    }.items():
        with pytest.raises(DataError, match=told):
            read_item_vectors(tmp_path / name, IDS)


def test_a_vector_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match="item 'b' must have 2 numbers like the first, got 3"):
        checked_vectors(IDS, [[1, 2], [1, 2, 3], [1, 2]], "here")
    with pytest.raises(DataError, match="got none"):
        checked_vectors(IDS, [[1, 2], None, [1, 2]], "here")
    table = pa.table({"item_id": ["a"], "text": ["one"], "item_vector": ["1 2"]})
    with pytest.raises(DataError, match="must hold lists of numbers"):
        build_catalogue(table)


def test_they_are_part_of_the_catalogue_and_its_hash(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "items.parquet", CATALOGUE)
    again = build_catalogue(read_table(tmp_path / "items.parquet"))
    assert again == CATALOGUE
    assert again.sha256 == CATALOGUE.sha256 != PLAIN.sha256
    moved = VECTORS.values.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(9))
    assert replace(PLAIN, vectors=ItemVectors(moved)).sha256 != CATALOGUE.sha256


def test_a_run_without_them_is_bit_for_bit_the_same() -> None:
    run, histories = small_config({}), [np.array([1, 5, 9]), np.array([2])]
    plain, beside = build_recommender(run, PLAIN), build_recommender(run, CATALOGUE)
    np.testing.assert_array_equal(plain.score_all(histories), beside.score_all(histories))
    table = plain.item_tower.table()
    old = table.cpu().double()
    mean = old.mean(0)
    values, directions = torch.linalg.eigh((old - mean).T @ (old - mean) / len(old))
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    signs = torch.sign(directions.gather(0, directions.abs().argmax(0, keepdim=True)))
    scale = torch.rsqrt(values + 0.02 * values[0])
    expected = (table - mean.float()) @ (directions * signs * scale).float()
    assert torch.equal(plain.table(), expected)


def test_items_with_near_vectors_are_found_and_the_width_stays() -> None:
    run, histories = reading(1.0), [np.array([0, 4, 8]), np.array([1])]
    plain, fused = build_recommender(small_config({}), PLAIN), build_recommender(run, CATALOGUE)
    assert fused.table().shape == plain.table().shape
    scores = fused.score_all(histories)
    assert not np.allclose(scores, plain.score_all(histories))
    index = build_index(fused)
    for row, history in enumerate(histories):
        np.testing.assert_allclose(index.scores([history]), scores[row], atol=1e-4)

    def lead(found: np.ndarray) -> float:
        others = np.arange(len(PLAIN)) > 8
        return float(
            found[1][others & (GROUP == 1)].mean() - found[1][others & (GROUP != 1)].mean()
        )

    assert lead(scores) > lead(plain.score_all(histories)) + 0.1


def test_a_text_alone_is_taken_for_average_in_the_vectors() -> None:
    texts, beside = torch.randn(30, 5), torch.randn(30, 3) + 4
    whitening = fit_whitening(texts, beside, 0.7)
    mean = beside.mean(0).expand(30, 3)
    torch.testing.assert_close(whitening(texts), whitening(texts, mean), atol=1e-4, rtol=1e-3)
    assert whitening(texts).shape == texts.shape


def test_other_vectors_than_the_runs_are_refused() -> None:
    with pytest.raises(DataError, match=r"has no column item_vector; take the federation's"):
        build_recommender(reading(1.0), PLAIN)
    with pytest.raises(DataError, match="the run's have 00000"):
        build_recommender(reading(1.0, "0" * 64), CATALOGUE)
    with pytest.raises(ConfigError, match="needs model.item_vectors_sha256"):
        build_recommender(reading(1.0, ""), CATALOGUE)


def test_two_catalogues_of_equal_vectors_are_one(tmp_path: Path) -> None:
    twin = Catalogue(PLAIN.item_ids, PLAIN.texts, PLAIN.genres, ItemVectors(VECTORS.values.copy()))
    assert twin == CATALOGUE
    assert hash(twin) == hash(CATALOGUE)
