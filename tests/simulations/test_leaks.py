"""Leak tests of the protocol (evaluation.md, 6a and 6b): what knows nothing must look random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.holdout import UserSplit, hold_out
from common.interactions import Dataset
from common.privacy_units import Unit, draw_negatives, make_units
from common.randomness import seeded_source
from simulations.baselines import random_scorer
from simulations.evaluation.full_ranking import PerUser, Scorer, evaluate_scorer, history_of
from simulations.synthetic import synthetic_dataset

ITEMS = 120
DRAWS_PER_USER = 3000  # each candidate is drawn about 30 times: "never drawn" is not chance


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(users=400, items=ITEMS, seed=3)


@pytest.fixture(scope="module")
def splits(dataset: Dataset) -> list[UserSplit]:
    return hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)


def memoriser(splits: Sequence[UserSplit], known: Callable[[UserSplit, Unit], Unit]) -> Scorer:
    """A scorer that only remembers how seldom an item was drawn as a negative of the user."""
    units = {unit.user_id: unit for unit in make_units(splits, max_history=150)}
    drawn: dict[tuple[int, ...], np.ndarray] = {}
    for split in splits:
        source = seeded_source(0, split.user_id, "negatives")
        unit = known(split, units[split.user_id])
        negatives = draw_negatives(unit, ITEMS, DRAWS_PER_USER, source)
        key = tuple(history_of(split, "test").tolist())
        drawn[key] = np.bincount(negatives, minlength=ITEMS)

    def score(histories: Sequence[np.ndarray]) -> np.ndarray:
        rows = [-drawn[tuple(history.tolist())] for history in histories]
        return np.array(rows, dtype=np.float32)

    return score


def expected_hits(splits: Sequence[UserSplit]) -> tuple[float, float]:
    """HR@10 of chance and its standard error, given each user's number of candidates."""
    chances = np.array([10 / (ITEMS - len(history_of(split, "test"))) for split in splits])
    return float(chances.mean()), math.sqrt(float((chances * (1 - chances)).sum())) / len(splits)


def deviation_from_chance(found: PerUser, splits: Sequence[UserSplit]) -> float:
    """How many standard errors HR@10 is above chance."""
    mean, error = expected_hits(splits)
    return (float(found.hr_10.mean()) - mean) / error


def test_a_random_scorer_scores_ten_in_the_number_of_candidates(splits: list[UserSplit]) -> None:
    """Within 4 standard errors: a false alarm in fewer than 1 of 10,000 seeds."""
    for seed in range(3):
        found = evaluate_scorer(random_scorer(ITEMS, seed), splits, "test")
        assert abs(deviation_from_chance(found, splits)) < 4


def test_never_drawn_as_a_negative_gives_nothing_away(splits: list[UserSplit]) -> None:
    """The memoriser of our own sampler is no better than chance (ties even cost it)."""
    scorer = memoriser(splits, known=lambda _, unit: unit)
    assert deviation_from_chance(evaluate_scorer(scorer, splits, "test"), splits) < 4


def test_the_memoriser_finds_a_planted_leak(splits: list[UserSplit]) -> None:
    """A sampler that spares the held-out items is caught, so the test above can fail."""

    def spare_all(split: UserSplit, unit: Unit) -> Unit:
        held_out = np.concatenate([split.validation.items, split.test.items])
        return replace(unit, positives=np.union1d(unit.positives, held_out))

    found = evaluate_scorer(memoriser(splits, known=spare_all), splits, "test")
    assert found.hr_10.mean() > 0.95
    assert deviation_from_chance(found, splits) > 20


def test_a_constant_scorer_cannot_profit_from_ties(splits: list[UserSplit]) -> None:
    def constant(histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(histories), ITEMS), dtype=np.float32)

    assert evaluate_scorer(constant, splits, "test").hr_20.sum() == 0
