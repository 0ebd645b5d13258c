"""What the service answers over the wire is what the offline evaluation ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.evaluation import metrics_by_user
from client.installed_adapter import current_folder
from client.serving import serving_pb2 as pb
from client.serving.rpc import Client, bearer
from client.site_data import load_site
from common.adapter_export import read_export, read_manifest
from common.holdout import history_of, is_judged, targets_of
from common.loaded_recommender import loaded_recommender
from common.metrics import user_metrics
from common.recommender import Recommender
from tests.client.serving.conftest import CONFIG, DATASET, TOKEN

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ITEMS = len(DATASET.catalogue)


@pytest.fixture(scope="module")
def offline(shared_site: Path) -> Recommender:
    """The recommender as an evaluation of the same adapter has it."""
    folder = current_folder(shared_site)
    assert folder is not None
    found = read_export(folder, read_manifest(folder))
    return loaded_recommender(
        found.config, DATASET.catalogue, found.adapter, found.item_prior, found.item_to_item
    )


def test_lists_and_figures_are_those_of_the_offline_evaluation(
    ask: Client, shared_site: Path, offline: Recommender
) -> None:
    data = load_site(shared_site)
    splits = data.splits(CONFIG.data.split, CONFIG.data.seed)
    judged = [split for split in splits if is_judged(split, "test")]
    assert len(judged) == 30
    scores = offline.score_all([history_of(split, "test") for split in judged])
    place = {item_id: index for index, item_id in enumerate(DATASET.catalogue.item_ids)}
    ranks = []
    for split, wanted in zip(judged, scores, strict=True):
        answer = ask.Recommend(
            pb.RecommendRequest(user=split.user_id, k=ITEMS), metadata=bearer(TOKEN)
        )
        items = np.array([place[offer.item_id] for offer in answer.items])
        history = history_of(split, "test")
        assert sorted([*items, *history]) == list(range(ITEMS))  # all that was not had, once
        served = np.array([offer.score for offer in answer.items])
        np.testing.assert_allclose(served, wanted[items], rtol=1e-4, atol=1e-4)
        assert (np.diff(served) <= 0).all()
        ranks.append(np.array([1 + list(items).index(each) for each in targets_of(split, "test")]))
    online, evaluated = user_metrics(ranks), metrics_by_user(offline, splits, "test")
    for name, values in evaluated.items():
        np.testing.assert_array_equal(online[name], values, err_msg=name)
    assert evaluated["ndcg_10"].mean() > 0


def test_somebody_new_gets_the_prior_and_a_visitor_the_score_of_their_items(
    ask: Client, offline: Recommender
) -> None:
    had = [3, 8]
    ids = DATASET.catalogue.item_ids
    for history in ([], had):
        (wanted,) = offline.score_all([np.array(history, dtype=np.int64)])
        visitor = pb.Visitor(item_ids=[ids[item] for item in history])
        answer = ask.Recommend(pb.RecommendRequest(visitor=visitor, k=5), metadata=bearer(TOKEN))
        wanted[history] = -np.inf
        best = np.sort(wanted)[:-6:-1]  # by score: items that equally many had are tied
        np.testing.assert_allclose([offer.score for offer in answer.items], best, atol=1e-4)
        places = [ids.index(offer.item_id) for offer in answer.items]
        np.testing.assert_allclose(wanted[places], best, atol=1e-4)
        assert [offer.propensity for offer in answer.items] == [1.0] * 5
    (prior,) = offline.score_all([np.zeros(0, dtype=np.int64)])
    assert np.corrcoef(prior, offline.item_prior.numpy())[0, 1] > 0.8


def test_each_effect_is_the_score_less_the_score_without_the_item(
    ask: Client, shared_site: Path, offline: Recommender
) -> None:
    data = load_site(shared_site)
    split = max(data.splits(CONFIG.data.split, CONFIG.data.seed), key=lambda each: len(each.train))
    history, item = history_of(split, "test"), int(targets_of(split, "test")[0])
    assert len(history) > CONFIG.model.max_history  # so that leaving out lets an older one in
    ids = DATASET.catalogue.item_ids
    answer = ask.Explain(
        pb.ExplainRequest(user=split.user_id, item_id=ids[item], top=50), metadata=bearer(TOKEN)
    )
    (score,) = offline.score_all([history])[:, item]
    assert answer.score == pytest.approx(score, abs=1e-4)
    effects = {reason.item_id: reason.effect for reason in answer.reasons}
    assert sorted(effects) == sorted(ids[each] for each in history)  # and nobody else's items
    for place, each in enumerate(history):
        (without,) = offline.score_all([np.delete(history, place)])[:, item]
        assert effects[ids[each]] == pytest.approx(score - without, abs=1e-4)
    sizes = [abs(reason.effect) for reason in answer.reasons]
    assert sizes == sorted(sizes, reverse=True)
    assert answer.title in answer.sentence
    assert any(answer.reasons[0].title in part for part in answer.sentence.split("“"))
