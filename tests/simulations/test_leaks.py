"""Leak tests of the protocol: what knows nothing of the held-out items must not find them.

(a) a memoriser of what was never drawn, (b) a random scorer, (c) training without federation,
(d) item texts shuffled between items; and a planted leak, which (a) and (c) catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.local_training import train_plain
from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.context import ContextEncoder
from common.holdout import UserSplit, hold_out
from common.interactions import Dataset
from common.privacy_units import Unit, draw_negatives, make_units
from common.randomness import seeded_source
from common.recommender import Recommender
from common.requests import requests_of
from simulations.baselines import TextFloor, popularity_scorer, random_scorer, text_floor_scorer
from simulations.evaluation.full_ranking import PerUser, Scorer, evaluate_scorer, history_of
from simulations.synthetic import synthetic_dataset

ITEMS = 120
DRAWS_PER_USER = 3000  # each candidate is drawn about 30 times: "never drawn" is not chance


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(users=400, items=ITEMS, seed=3)


@pytest.fixture(scope="module")
def splits(dataset: Dataset) -> list[UserSplit]:
    return hold_out(
        dataset.interactions,
        dataset.catalogue,
        split="leave_one_out",
        seed=0,
        users=dataset.users,
    )


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


def honest(_: UserSplit, unit: Unit) -> Unit:
    """The sampler knows what it knows: the training items."""
    return unit


def spare_all(split: UserSplit, unit: Unit) -> Unit:
    """The planted leak of published code: no held-out item is ever drawn as a negative."""
    held_out = np.concatenate([split.validation.items, split.test.items])
    return replace(unit, positives=np.union1d(unit.positives, held_out))


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
    scorer = memoriser(splits, known=honest)
    assert deviation_from_chance(evaluate_scorer(scorer, splits, "test"), splits) < 4


def test_the_memoriser_finds_a_planted_leak(splits: list[UserSplit]) -> None:
    """A sampler that spares the held-out items is caught, so the test above can fail."""
    found = evaluate_scorer(memoriser(splits, known=spare_all), splits, "test")
    assert found.hr_10.mean() > 0.95
    assert deviation_from_chance(found, splits) > 20


def test_a_constant_scorer_cannot_profit_from_ties(splits: list[UserSplit]) -> None:
    def constant(histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(histories), ITEMS), dtype=np.float32)

    assert evaluate_scorer(constant, splits, "test").hr_20.sum() == 0


# (c) and (d): with the model itself.

LONELY = RunConfig(
    model=ModelConfig(
        item_side="head", head_dim=4, head_items=ITEMS, head_matrix="per_lag", lora_layers=1
    ),
    privacy=PrivacyConfig(mode="none", targets_per_unit=10, negatives_per_unit=110),
    federation=FederationConfig(local_steps=30, local_optimizer="adam", local_lr=0.3),
)
LONELY_USERS = 40


@pytest.fixture(scope="module")
def recommender(dataset: Dataset) -> Recommender:
    return without_public_terms(LONELY, dataset)


def without_public_terms(config: RunConfig, dataset: Dataset) -> Recommender:
    """It has a code for every item, so it could learn which ones were never pushed down."""
    made = build_recommender(config, dataset.catalogue)
    made.set_item_prior(torch.arange(ITEMS, 0, -1, dtype=torch.float32))
    with torch.no_grad():
        for term in made.score.parameters():
            term.zero_()  # what is learned alone: neither the public texts nor the prior
    return made


def trained_alone(
    recommender: Recommender,
    splits: Sequence[UserSplit],
    known: Callable[[UserSplit, Unit], Unit],
    config: RunConfig = LONELY,
) -> Scorer:
    """Each user's own model, trained by our own steps on that user alone."""
    encoder = ContextEncoder.of(config.model)
    units = make_units(splits, max_history=150, encoder=encoder)
    start = {name: tensor.clone() for name, tensor in recommender.head.state_dict().items()}
    scores: dict[tuple[int, ...], np.ndarray] = {}
    for split, unit in zip(splits, units, strict=True):
        recommender.head.load_state_dict(start)
        source = seeded_source(0, split.user_id, "alone")
        train_plain(recommender, [known(split, unit)], config, server_round=1, sampling=source)
        history = history_of(split, "test")
        scores[tuple(history.tolist())] = recommender.score_all(requests_of([split], "test"))[0]
    recommender.head.load_state_dict(start)

    def score(histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([scores[tuple(history.tolist())] for history in histories])

    return score


@pytest.mark.slow
def test_training_without_federation_stays_near_popularity(
    recommender: Recommender, splits: list[UserSplit]
) -> None:
    """One user's items say little of the next one; the leak says it all (HR@10, 40 users)."""
    few = splits[:LONELY_USERS]
    popular = evaluate_scorer(popularity_scorer(splits, ITEMS), few, "test").hr_10.mean()
    alone = evaluate_scorer(trained_alone(recommender, few, honest), few, "test").hr_10.mean()
    leaked = evaluate_scorer(trained_alone(recommender, few, spare_all), few, "test").hr_10.mean()
    assert alone < popular + 0.2  # two and a half standard errors
    assert leaked > popular + 0.4


@pytest.mark.slow
def test_context_gives_nothing_away_either(dataset: Dataset, splits: list[UserSplit]) -> None:
    """As above, with attributes and the very time of the held-out interaction as input."""
    model = LONELY.model.model_copy(update={"context": "user,time", "context_dim": 16})
    config = LONELY.model_copy(update={"model": model})
    recommender = without_public_terms(config, dataset)
    few = splits[:LONELY_USERS]
    popular = evaluate_scorer(popularity_scorer(splits, ITEMS), few, "test").hr_10.mean()
    found = (
        evaluate_scorer(trained_alone(recommender, few, known, config), few, "test").hr_10.mean()
        for known in (honest, spare_all)
    )
    alone, leaked = found
    assert alone < popular + 0.2
    assert leaked > popular + 0.4


def text_only(vectors: np.ndarray) -> Scorer:
    """Similarity of texts to the user's recent items, and no popularity at all."""
    return text_floor_scorer(vectors, np.zeros(ITEMS), 0.0, TextFloor())


@pytest.mark.slow
def test_shuffled_texts_are_worth_nothing(
    recommender: Recommender, splits: list[UserSplit]
) -> None:
    """With another item's text in its place, text finds no more than popularity or chance."""
    vectors = recommender.item_tower.table().cpu().numpy()
    shuffled = vectors[np.random.default_rng(0).permutation(ITEMS)]
    popular = evaluate_scorer(popularity_scorer(splits, ITEMS), splits, "test")
    true = evaluate_scorer(text_only(vectors), splits, "test")
    false = evaluate_scorer(text_only(shuffled), splits, "test")
    assert true.hr_10.mean() > popular.hr_10.mean() + 0.05
    assert false.hr_10.mean() < popular.hr_10.mean() + 0.03
    assert abs(deviation_from_chance(false, splits)) < 4
