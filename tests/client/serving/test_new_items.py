"""Items that the run did not know are offered by their text, and need no training."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.serving.catalogue import read_new_items
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import WhatToServe
from common.errors import DataError
from common.new_items import RULES, NewItemRule
from tests.client.serving.conftest import CONFIG, DATASET

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


def test_a_new_item_is_scored_by_the_rule_that_its_offline_figures_have(
    shared_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = DATASET.catalogue.item_ids
    table = tmp_path / "new.csv"
    table.write_text("item_id,text\nfresh,a galaxy and a robot\n")
    visitor = Visitor([ids[5], ids[9]])

    def score() -> float:
        found = SiteRecommender(WhatToServe(shared_site, table).load())
        return {o.item_id: o.score for o in found.recommend(visitor, 79).offers}["fresh"]

    def by(rule: NewItemRule) -> float:
        monkeypatch.setitem(RULES, CONFIG.model.head, rule)
        return score()

    plain, lifted = by(NewItemRule()), by(NewItemRule(lift=2.5))
    assert lifted == pytest.approx(plain + 2.5, abs=1e-4)
    bare = by(NewItemRule(0.0, 1e-9, 0.0))  # neither head nor text: the mean prior and no more
    served = WhatToServe(shared_site).load()
    assert bare == pytest.approx(float(served.index.terms.offset.weight), abs=1e-4)
    text, head = by(NewItemRule(0.0, 1.0, 0.0)) - bare, by(NewItemRule(1.0, 1e-9, 0.0)) - bare
    assert plain == pytest.approx(bare + head + text, abs=1e-4)
    assert by(NewItemRule(0.5, 3.0, 1.0)) == pytest.approx(
        bare + 0.5 * head + 3 * text + 1, abs=1e-3
    )


@pytest.mark.parametrize("text", ["", "\u200b\u200d\ufeff", "?!"])
def test_a_new_item_without_a_word_is_refused_by_name(tmp_path: Path, text: str) -> None:
    table = tmp_path / "new.csv"
    table.write_text(f"item_id,text\ngood,a robot\nblank,{text}\n", encoding="utf-8")
    with pytest.raises(DataError, match="blank") as fault:
        read_new_items(table)
    assert "\n" not in str(fault.value)


def test_a_text_that_is_too_long_is_read_as_far_as_the_model_reads(
    shared_site: Path, tmp_path: Path
) -> None:
    table = tmp_path / "new.csv"
    start = "a galaxy and a robot " * 40  # far over model.max_tokens
    table.write_text(f"item_id,text\nlong,{start}\nlonger,{start} wedding {start * 9}\n")
    recommender = SiteRecommender(WhatToServe(shared_site, table).load())
    answer = recommender.recommend(Visitor([DATASET.catalogue.item_ids[5]]), 81)
    scores = {offer.item_id: offer.score for offer in answer.offers}
    assert scores["long"] == pytest.approx(scores["longer"], abs=1e-5)
