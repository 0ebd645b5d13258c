"""Items that the run did not know are offered by their text, and need no training."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import WhatToServe
from common.errors import DataError
from tests.client.serving.conftest import DATASET

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_a_new_item_is_offered_to_who_had_a_similar_one(shared_site: Path, tmp_path: Path) -> None:
    ids, texts = DATASET.catalogue.item_ids, DATASET.catalogue.texts
    table = tmp_path / "new.csv"
    table.write_text(f'item_id,text\nfresh,"{texts[5]}"\nother,"{texts[60]} again"\n')
    recommender = SiteRecommender(WhatToServe(shared_site, table).load())
    answer = recommender.recommend(Visitor([ids[5]]), 82 - 1)
    scores = {offer.item_id: offer.score for offer in answer.offers}
    assert len(scores) == 81
    assert scores["fresh"] > scores["other"]
    told = recommender.explain(Visitor([ids[5]]), "fresh", 2)
    assert told.items == [(ids[5], recommender.served.items.title(5))]
    assert told.found.reasons[0].effect > 0
    assert recommender.recommend(Visitor(["fresh"]), 3).offers  # and it may be in a history


def test_old_scores_do_not_change_by_new_items(shared_site: Path, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("item_id,text\nfresh,a galaxy and a robot\n")
    visitor = Visitor(DATASET.catalogue.item_ids[2:9])
    before = SiteRecommender(WhatToServe(shared_site).load()).recommend(visitor, 73)
    after = SiteRecommender(WhatToServe(shared_site, table).load()).recommend(visitor, 74)
    scores = {offer.item_id: offer.score for offer in after.offers}
    assert {offer.item_id: pytest.approx(offer.score, abs=1e-5) for offer in before.offers} == {
        item_id: score for item_id, score in scores.items() if item_id != "fresh"
    }


def test_a_new_item_that_is_an_old_one_is_refused(shared_site: Path, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text(f"item_id,text\n{DATASET.catalogue.item_ids[0]},a text\n")
    with pytest.raises(DataError, match="in the federation's catalogue already"):
        WhatToServe(shared_site, table).load()
