"""The sampled protocol is what drawing negatives one by one gives, at the price of none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from common.errors import DataError
from common.holdout import hold_out
from simulations.baselines import popularity_scorer
from simulations.evaluation.full_ranking import (
    evaluate_scorer,
    history_of,
    mean_over_draws,
    targets_of,
)
from simulations.evaluation.sampled_ranking import sampled_metrics
from simulations.synthetic import synthetic_dataset

ITEMS = 120
DATA = synthetic_dataset(users=300, items=ITEMS, seed=1)
SPLITS = hold_out(DATA.interactions, DATA.catalogue, split="leave_one_out", seed=0)
FULL = evaluate_scorer(popularity_scorer(SPLITS, ITEMS), SPLITS, "test")


def drawn_one_by_one(negatives: int, draws: int) -> np.ndarray:
    """HR@10 of each user, float64[U], by drawing the negatives and counting; ties against."""
    scores = popularity_scorer(SPLITS, ITEMS)([np.zeros(0, np.int64)])[0]
    rng, hits = np.random.default_rng(5), np.zeros(len(SPLITS))
    for user, split in enumerate(SPLITS):
        target = targets_of(split, "test")[0]
        others = np.setdiff1d(np.arange(ITEMS), [*history_of(split, "test"), target])
        for _ in range(draws):
            chosen = rng.choice(others, min(negatives, len(others)), replace=False)
            hits[user] += (scores[chosen] >= scores[target]).sum() < 10
    return hits / draws


@pytest.mark.statistical
def test_it_agrees_with_drawing_the_negatives() -> None:
    """The users' means of 50 draws each; within 4 standard errors (1 false alarm in 15,000)."""
    draws = 50
    found = sampled_metrics(FULL, SPLITS, "test", ITEMS, negatives=30, draws=draws).hr_10
    expected = drawn_one_by_one(30, draws)
    variance = (expected * (1 - expected) + found * (1 - found)).sum() / draws
    assert 0.05 < expected.mean() < 0.95
    assert abs(found.sum() - expected.sum()) < 4 * math.sqrt(variance)


def test_all_candidates_as_negatives_are_the_full_ranking() -> None:
    found = sampled_metrics(FULL, SPLITS, "test", ITEMS, negatives=ITEMS)
    assert found.ndcg_10 == pytest.approx(FULL.ndcg_10)


def test_fewer_negatives_are_easier() -> None:
    few = sampled_metrics(FULL, SPLITS, "test", ITEMS, negatives=20)
    assert (few.hr_10 >= FULL.hr_10).all()
    assert few.hr_10.mean() > FULL.hr_10.mean() + 0.1


def test_several_targets_are_averaged() -> None:
    splits = hold_out(DATA.interactions, DATA.catalogue, split="last_fifth", seed=0)
    full = evaluate_scorer(popularity_scorer(splits, ITEMS), splits, "test")
    found = sampled_metrics(full, splits, "test", ITEMS, negatives=0)
    assert (found.mrr == 1).all()  # each target is alone


def test_an_average_has_no_ranks_to_start_from() -> None:
    with pytest.raises(DataError, match="need the ranks of the same 300 users"):
        sampled_metrics(mean_over_draws([FULL]), SPLITS, "test", ITEMS)
    others = replace(FULL, user_ids=("x", *FULL.user_ids[1:]))
    with pytest.raises(DataError, match="of the same"):
        sampled_metrics(others, SPLITS, "test", ITEMS)
