"""Metrics of impressions: against hand-computed values, MIND's formulas and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from common.holdout import ItemSequence, UserSplit
from common.interactions import Catalogue
from simulations.evaluation.impression_metrics import impression_metrics
from simulations.evaluation.impressions import (
    ScoredImpressions,
    base_log_loss,
    calibrated_log_loss,
    pooled_auc,
    score_impressions,
    stage_impressions,
)
from simulations.public.tables import Impression


def test_by_hand() -> None:
    """Clicks stand second and sixth of six."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
    clicked = np.array([False, True, False, False, False, True])
    auc, mrr, at_5, at_10 = impression_metrics(clicked, scores)
    assert auc == pytest.approx(3 / 8)
    assert mrr == pytest.approx((1 / 2 + 1 / 6) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert at_5 == pytest.approx((1 / math.log2(3)) / ideal)
    assert at_10 == pytest.approx((1 / math.log2(3) + 1 / math.log2(7)) / ideal)


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(2, 40))
        clicked = rng.random(count) < 0.3
        clicked[:2] = (True, False)
        scores = rng.normal(size=count)
        auc, _, at_5, at_10 = impression_metrics(clicked, scores)
        assert auc == pytest.approx(roc_auc_score(clicked, scores))
        assert at_5 == pytest.approx(ndcg_score([clicked], [scores], k=5))
        assert at_10 == pytest.approx(ndcg_score([clicked], [scores], k=10))


def test_equal_scores_gain_nothing() -> None:
    clicked = np.array([True, False, False])
    auc, mrr, at_5, _ = impression_metrics(clicked, np.zeros(3))
    assert (auc, mrr, at_5) == pytest.approx((0.5, 1 / 3, 0.5))
    _, unknown, _, _ = impression_metrics(clicked, np.array([np.nan, 0.0, -5.0]))
    assert unknown == pytest.approx(1 / 3)


def _split() -> UserSplit:
    def part(items: list[int], times: list[int]) -> ItemSequence:
        ratings = np.ones(len(items), dtype=np.float32)
        return ItemSequence(np.array(items), ratings, np.array(times))

    return UserSplit("u", part([0], [10]), part([1], [20]), part([2], [30]))


def test_an_impression_is_of_the_stage_in_whose_time_it_lies() -> None:
    catalogue = Catalogue(tuple("abcde"), tuple("abcde"), ((),) * 5)
    impressions = [
        Impression("u", 10, ("a", "d"), (True, False)),  # trains
        Impression("u", 20, ("b", "d", "a"), (True, False, False)),
        Impression("u", 25, ("d",), (False,)),  # nothing to rank
        Impression("u", 30, ("c", "d", "b", "zz"), (True, False, True, False)),
        Impression("other", 30, ("c", "d"), (True, False)),
    ]
    validation = stage_impressions(impressions, [_split()], catalogue, "validation")
    assert [shown.items.tolist() for shown in validation.shown[0]] == [[1, 3], [3]]
    assert validation.left_out == 1
    test = stage_impressions(impressions, [_split()], catalogue, "test")
    assert [shown.items.tolist() for shown in test.shown[0]] == [[2, 3]]  # b is history by then

    scored = score_impressions(lambda asked: np.tile(np.arange(5.0), (len(asked), 1)), validation)
    assert scored.sums.tolist() == [[0.0, 0.5, *[pytest.approx(1 / math.log2(3))] * 2, 1.0]]
    assert scored.clicked.tolist() == [True, False, False]


def test_pooled_figures_tell_a_good_scorer_from_none() -> None:
    rng = np.random.default_rng(1)
    clicked = rng.random(4000) < 0.2
    good = ScoredImpressions(np.zeros((1, 5)), clicked, clicked * 2.0 + rng.normal(size=4000))
    none = ScoredImpressions(np.zeros((1, 5)), clicked, rng.normal(size=4000))
    assert pooled_auc(good) > 0.9 > 0.55 > pooled_auc(none)
    assert calibrated_log_loss(good, good) < 0.8 * base_log_loss(good, good)
    assert calibrated_log_loss(none, none) == pytest.approx(base_log_loss(none, none), rel=0.01)
