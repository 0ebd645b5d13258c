"""The reward model against plain Bayesian regression over all its coefficients at once."""

from __future__ import annotations

import numpy as np
import pytest

from client.serving.reward_model import Beliefs, Floats, RewardModel, embeddings_of
from client.serving.take_rate import fit_take_rate
from common.errors import DataError

BELIEFS = Beliefs(noise=0.3, known=0.05, new=0.2, rate=0.3, shared=0.1)
RNG = np.random.default_rng(5)
ITEMS, SHOWN = 6, 40
VECTORS = RNG.normal(size=(ITEMS, 2))
IS_NEW = np.arange(ITEMS) >= 4
SHOWINGS = RNG.integers(0, ITEMS - 1, SHOWN)  # the last item is never shown
RATES, REWARDS = RNG.uniform(0, 1, SHOWN), RNG.integers(0, 2, SHOWN).astype(float)


def plain_regression() -> tuple[Floats, Floats]:
    """Means and deviations at take rate 0.4, by one dense solution."""

    def design(items: Floats, rates: Floats) -> Floats:
        one_hot = np.eye(ITEMS)[items.astype(int)]
        return np.column_stack([rates, np.ones(len(items)), VECTORS[items.astype(int)], one_hot])

    shared = [BELIEFS.rate, *[BELIEFS.shared] * 3]
    before = np.array([*shared, *np.where(IS_NEW, BELIEFS.new, BELIEFS.known)]) ** -2.0
    x = design(SHOWINGS, RATES)
    covariance = np.linalg.inv(np.diag(before) + x.T @ x / BELIEFS.noise**2)
    start = np.zeros(len(before))
    start[0] = 1.0
    weights = covariance @ (before * start + x.T @ REWARDS / BELIEFS.noise**2)
    asked = design(np.arange(ITEMS), np.full(ITEMS, 0.4))
    return asked @ weights, np.sqrt(np.einsum("nd,de,ne->n", asked, covariance, asked))


def test_it_is_the_dense_solution() -> None:
    model = RewardModel(VECTORS, IS_NEW, BELIEFS)
    for some in np.array_split(np.arange(SHOWN), 3):
        model.learn(SHOWINGS[some], RATES[some], REWARDS[some])
    mean, spread = model.posterior().predict(np.full(ITEMS, 0.4))
    expected = plain_regression()
    assert mean == pytest.approx(expected[0])
    assert spread == pytest.approx(expected[1])


def test_before_feedback_it_is_the_take_rate_and_new_items_are_less_certain() -> None:
    rates = np.full(ITEMS, 0.3)
    mean, spread = RewardModel(VECTORS[:, :0], IS_NEW, BELIEFS).posterior().predict(rates)
    assert mean == pytest.approx(rates)
    assert spread[IS_NEW].min() > spread[~IS_NEW].max()


def test_a_take_rate_is_found_again() -> None:
    scores = RNG.normal(0, 2, 40_000)
    taken = RNG.random(40_000) < 1 / (1 + np.exp(-(0.8 * scores - 2)))
    rate = fit_take_rate(scores, taken)
    assert rate.slope == pytest.approx(0.8, abs=0.05)
    assert rate.level == pytest.approx(-2, abs=0.1)
    assert fit_take_rate(scores, ~taken).slope == 0  # the order of scores is never turned round


@pytest.mark.parametrize(
    ("scores", "taken"),
    [([1.0, 2.0], [False, False]), ([1.0, 2.0], [True, True]), ([np.inf, 1.0], [True, False])],
)
def test_a_take_rate_needs_both_outcomes(scores: list[float], taken: list[bool]) -> None:
    with pytest.raises(DataError, match="take rate needs"):
        fit_take_rate(np.array(scores), np.array(taken))


def test_embeddings_keep_what_differs() -> None:
    vectors = RNG.normal(size=(50, 3)) @ RNG.normal(size=(3, 8)) + 5
    found = embeddings_of(vectors, 16)
    assert found.shape == (50, 3)
    assert found[:, 0].std() == pytest.approx(1)
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 1e-9
