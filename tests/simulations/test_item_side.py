"""What `data` adds to the catalogue: the graph in each of its forms, and the hash in the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.config import DataConfig, RunConfig
from common.config_loading import load_config
from common.errors import ConfigError, DataError
from common.interactions import Catalogue, build_catalogue
from common.table_readers import read_table
from server.app import check_named
from simulations.datasets import load_dataset
from simulations.item_graph import read_item_graph
from simulations.item_side import with_item_side
from simulations.public_items import with_item_hash, write_public_items

ITEMS = Catalogue(
    tuple("abcde"),
    ("Alien", "Aliens", "Heat", "Ronin. Linked words", "Alone"),
    (("Space", "Horror"), ("Space", "Horror"), ("Crime",), ("Crime", "Space"), ()),
)


def recbole(folder: Path) -> Path:
    """The format of RecBole's files, made up; items a and b share a director, c is b's sequel."""
    links = [f"{item}\tm.0{item}" for item in "abcd"]
    (folder / "films.link").write_text("\n".join(["item_id:token\tentity_id:token", *links]))
    triples = [("a", "director", "x"), ("b", "director", "x"), ("c", "sequel", "b")]
    lines = ["\t".join(f"m.0{end}" if end in "abc" else end for end in each) for each in triples]
    lines.append("y\tactor\tm.0d")
    header = "head_id:token\trelation_id:token\ttail_id:token"
    (folder / "films.kg").write_text("\n".join([header, *lines]))
    return folder / "films.kg"


def test_genres_bring_items_near(tmp_path: Path) -> None:
    graph = read_item_graph("genres", ITEMS)
    vectors = graph.vectors(8)
    near = vectors @ vectors.T
    np.testing.assert_allclose(near, (graph.weights @ graph.weights.T).toarray(), atol=1e-12)
    assert near[0, 1] == pytest.approx(1)
    assert near[2, 3] > near[0, 3] > 0  # crime is rarer than space
    assert not near[4].any()
    assert graph.vectors(2).shape == (5, 2)
    path = tmp_path / "links.csv"
    rows = [f"{i},{g}" for i, gs in zip(ITEMS.item_ids, ITEMS.genres, strict=True) for g in gs]
    path.write_text("\n".join(["item_id,entity", *rows, "unknown,Space"]))
    np.testing.assert_allclose(read_item_graph(str(path), ITEMS).vectors(8), vectors)


def test_recboles_files_are_read(tmp_path: Path) -> None:
    graph = read_item_graph(str(recbole(tmp_path)), ITEMS)
    assert graph.entities == ("m.0b", "x")
    near = (graph.weights @ graph.weights.T).toarray()
    assert near[0, 1] > 0
    assert near[1, 2] > 0
    assert near[0, 2] == 0
    path = tmp_path / "codes.csv"
    path.write_text("item_id,entity\na,m.01\nb,m.01\n")
    with pytest.raises(DataError, match=r"1 of 1 entities are codes such as 'm\.01'"):
        read_item_graph(str(path), ITEMS).texts(ITEMS.texts, 3)


def test_neighbours_are_averaged_in() -> None:
    values = np.array([[1.0, 0], [0, 1], [5, 5], [7, 7], [9, 9]])
    found = read_item_graph("genres", ITEMS).with_neighbours(values, 1)
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5], [6, 6], [6, 6], [9, 9]])


def test_names_are_appended_to_texts_that_lack_them() -> None:
    told = DataConfig(item_graph="genres", item_graph_as="text", item_graph_size=1)
    texts = with_item_side(ITEMS, told).texts
    assert texts == (
        "Alien. Linked: Horror",
        "Aliens. Linked: Horror",
        "Heat. Linked: Crime",
        "Ronin. Linked words. Linked: Crime",
        "Alone",
    )


def test_a_wrong_graph_is_told_in_a_line(tmp_path: Path) -> None:
    broken = recbole(tmp_path)
    (tmp_path / "films.link").unlink()
    bare = tmp_path / "bare.kg"
    bare.write_text("head\ttail\na\tb\n")
    (tmp_path / "bare.link").write_text("item_id:token\tentity_id:token\na\tm.0a\n")
    for source, told in {
        str(broken): "films.link: no such file",
        str(bare): "write each column as name:type",
        str(tmp_path / "none.csv"): "no such file",
    }.items():
        with pytest.raises(DataError, match=told):
            read_item_graph(source, ITEMS)
    with pytest.raises(DataError, match="no entity links two of the"):
        read_item_graph("genres", replace(ITEMS, genres=((),) * 5))
    with pytest.raises(DataError, match="needs item vectors to average"):
        with_item_side(ITEMS, DataConfig(item_graph="genres", item_graph_as="neighbours"))


def test_both_stand_beside_each_other_and_two_sources_are_refused(tmp_path: Path) -> None:
    ids, own = np.array(ITEMS.item_ids), np.arange(10.0).reshape(5, 2) ** 2
    np.savez(tmp_path / "v.npz", item_id=ids, vectors=own)
    data = DataConfig(item_vectors=str(tmp_path / "v.npz"), item_graph="genres", item_graph_size=2)
    both = with_item_side(ITEMS, data)
    assert both.vectors is not None
    np.testing.assert_array_equal(both.vectors.values[:, :2], own.astype(np.float32))
    spread = both.vectors.values.var(axis=0)
    assert spread[:2].sum() == pytest.approx(spread[2:].sum(), rel=1e-4)
    with pytest.raises(DataError, match="has a column item_vector already"):
        with_item_side(both, data)


def test_a_run_names_the_hash_of_what_it_reads(tmp_path: Path) -> None:
    keys = ["data.dataset=synthetic", "data.item_graph=genres", "model.item_vectors_weight=1.0"]
    config = load_config(overrides=keys)
    dataset = load_dataset(config.data)
    assert dataset.catalogue.vectors is not None
    named = with_item_hash(config, dataset)
    assert named.model.item_vectors_sha256 == dataset.catalogue.vectors.sha256
    assert named.sha256() != config.sha256()
    assert with_item_hash(RunConfig(), None) == RunConfig()
    with pytest.raises(ConfigError, match=r"evaluation\.lab=false"):
        with_item_hash(config, None)
    with pytest.raises(ConfigError, match=r"needs model\.item_vectors_sha256"):
        check_named(config.model)  # as the server, before it asks a site
    with pytest.raises(DataError, match="has no item vectors"):
        with_item_hash(config, load_dataset(DataConfig(dataset="synthetic")))
    with pytest.raises(ConfigError, match="does not read"):
        load_config(overrides=keys[:2])
    out = tmp_path / "items.parquet"
    told = write_public_items(config.data, out, notify=print)
    assert told["model.item_vectors_sha256"] == named.model.item_vectors_sha256
    assert build_catalogue(read_table(out)) == dataset.catalogue


def test_a_folder_of_tables_may_bring_vectors(tmp_path: Path) -> None:
    texts = list(ITEMS.texts)
    items = pa.table(
        {"item_id": list("abcde"), "text": texts, "item_vector": [[i, 1] for i in range(5)]}
    )
    pq.write_table(items, tmp_path / "items.parquet")
    rows = "\n".join(f"u,{item},{at}" for at, item in enumerate("abc"))
    (tmp_path / "interactions.csv").write_text(f"user_id,item_id,timestamp\n{rows}\n")
    found = load_dataset(DataConfig(dataset=str(tmp_path))).catalogue.vectors
    assert found is not None
    assert found.values[3].tolist() == [3, 1]
