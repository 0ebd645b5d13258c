"""A site serves an adapter that reads item vectors: index, new items, words, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.made_site import install, make_export, make_site
from client.serving.recommending import Answer, SiteRecommender, Visitor
from client.serving.served import WhatToServe
from common.errors import DataError
from common.item_vectors import checked_vectors
from simulations.public_items import with_item_hash
from tests.client.serving.conftest import CONFIG, DATASET

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

COUNT = len(DATASET.catalogue)
VALUES = np.eye(5)[np.arange(COUNT) % 5] + 0.01 * np.arange(COUNT)[:, None]
WITH = replace(
    DATASET,
    catalogue=replace(
        DATASET.catalogue,
        vectors=checked_vectors(DATASET.catalogue.item_ids, list(VALUES), "here"),
    ),
)
READS = with_item_hash(
    CONFIG.model_copy(
        update={"model": CONFIG.model.model_copy(update={"item_vectors_weight": 1.0})}
    ),
    WITH,
)


def scores(answer: Answer) -> dict[str, float]:
    return {offer.item_id: offer.score for offer in answer.offers}


def test_vectors_reach_the_index_new_items_and_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export = make_export(WITH, READS, tmp_path, 1)
    site = make_site(WITH, READS, tmp_path / "sites")
    install(export, site, WITH, READS)
    ids = DATASET.catalogue.item_ids
    columns = {"item_id": ["near", "far"], "text": ["a quiet word"] * 2}
    pq.write_table(pa.table(columns), tmp_path / "texts.parquet")
    vectors = {"item_vector": [VALUES[5].tolist(), VALUES[7].tolist()]}
    pq.write_table(pa.table({**columns, **vectors}), tmp_path / "both.parquet")
    visitor = Visitor([ids[5], ids[10]])

    def new_scores(name: str) -> dict[str, float]:
        found = SiteRecommender(WhatToServe(site, tmp_path / name).load())
        return scores(found.recommend(visitor, COUNT))

    by_text = new_scores("texts.parquet")
    assert by_text["near"] == pytest.approx(by_text["far"], abs=1e-5)
    assert "have no column item_vector" in caplog.text
    by_both = new_scores("both.parquet")
    assert by_both["near"] > by_both["far"] + 0.1
    told = WhatToServe(site, tmp_path / "both.parquet", with_words=True).load()
    words = SiteRecommender(told).words(visitor, "near", 3)
    assert {reason.word for reason in words.reasons} == {"a", "quiet", "word"}
    bad = pa.table({**columns, "item_vector": [[1.0], [2.0]]})
    pq.write_table(bad, tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="have 1 numbers, and the federation's 5"):
        WhatToServe(site, tmp_path / "bad.parquet").load()


def test_an_adapter_that_reads_vectors_is_not_installed_without_them(tmp_path: Path) -> None:
    export = make_export(WITH, READS, tmp_path, 1)
    site = make_site(DATASET, CONFIG, tmp_path / "sites")
    with pytest.raises(DataError, match="has no column item_vector"):
        install(export, site, DATASET, CONFIG)
