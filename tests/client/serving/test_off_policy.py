"""The three estimators against closed forms: on logs whose every outcome can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.serving.exploration import Exploration, Floats, Pool, inclusion
from client.serving.off_policy import Logged, OffPolicy, evaluate
from common.errors import DataError

TRUTH = np.array([0.1, 0.5, 0.9])  # what each of three items earns
LOGGED = np.array([0.5, 0.3, 0.2])
WANTED = np.array([0.1, 0.2, 0.7])


def exact_log(expected: Floats) -> Logged:
    """A log of one place a list, in which every item and outcome stands as often as it is likely.

    A mean over it is an expectation, so that an unbiased estimate has no error.
    """
    items, rewards = [], []
    for item, (chance, rate) in enumerate(zip(LOGGED, TRUTH, strict=True)):
        shown, taken = round(1000 * chance), round(1000 * chance * rate)
        items += [item] * shown
        rewards += [1.0] * taken + [0.0] * (shown - taken)
    item = np.array(items)
    count = np.arange(len(item))
    return Logged(
        lists=count,
        users=count,
        rewards=np.array(rewards),
        logged=LOGGED[item],
        wanted=WANTED[item],
        expected=expected[item],
        worth=np.full(len(item), WANTED @ expected),
    )


def test_all_three_are_exact_on_an_exact_log() -> None:
    found = evaluate(exact_log(np.array([0.3, 0.3, 0.3])))  # a wrong model
    value = float(WANTED @ TRUTH)
    assert found.snips is not None
    assert found.ips.mean == pytest.approx(value)
    assert found.snips.mean == pytest.approx(value)
    assert found.dr.mean == pytest.approx(value)
    assert found.observed.mean == pytest.approx(LOGGED @ TRUTH)
    assert found.mean_weight == pytest.approx(1)
    squares = float((LOGGED * (WANTED / LOGGED) ** 2).sum())
    assert found.effective_places == pytest.approx(1000 / squares)
    assert found.warning is None


def test_wrong_chances_mislead_ips_and_leave_dr_with_a_right_model() -> None:
    log = exact_log(TRUTH)
    wrong = replace(log, logged=np.full(len(log.lists), 1 / 3))
    found = evaluate(wrong)
    assert found.ips.mean == pytest.approx(3 * float((LOGGED * WANTED) @ TRUTH))
    assert found.dr.mean == pytest.approx(WANTED @ TRUTH)


def test_snips_does_not_change_when_all_rewards_shift() -> None:
    log = exact_log(TRUTH)
    one_less = evaluate(replace(log, wanted=log.wanted / 2))
    assert one_less.snips is not None
    assert one_less.snips.mean == pytest.approx(WANTED @ TRUTH)
    assert one_less.ips.mean == pytest.approx(WANTED @ TRUTH / 2)
    assert one_less.warning is not None
    assert "50%" in one_less.warning


def test_a_log_s_own_policy_earns_what_was_observed() -> None:
    log = exact_log(TRUTH)
    found = evaluate(replace(log, wanted=log.logged))
    assert found.ips == found.observed
    assert found.effective_places == pytest.approx(found.places)


def drawn_estimate(seed: int) -> tuple[float, OffPolicy]:
    """Lists of three out of eight by epsilon_greedy; asked: what thompson would earn."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.6, 8)
    logger, other = Exploration("epsilon_greedy", 0.5), Exploration("thompson", 1.0)
    pool = Pool(truth + rng.normal(0, 0.1, 8), np.full(8, 0.2))
    mine, theirs = (inclusion(each.chances(pool, 3, 0)) for each in (logger, other))
    rows = np.stack([logger.draw(pool, 3, 0, rng) for _ in range(600)])
    log = Logged(
        lists=np.repeat(np.arange(600), 3),
        users=np.arange(600) % 200,
        rewards=(rng.random(rows.shape) < truth[rows]).astype(float).ravel(),
        logged=mine[rows].ravel(),
        wanted=theirs[rows].ravel(),
        expected=pool.mean[rows].ravel(),
        worth=np.full(600, (theirs @ pool.mean).sum()),
    )
    return float((theirs @ truth).sum()), evaluate(log)


@pytest.mark.statistical
def test_intervals_hold_the_closed_form() -> None:
    """95% intervals of 20 logs; fewer than 15 hits have a chance of 3e-4 at 95%."""
    hits = np.zeros(3)
    for seed in range(20):
        value, found = drawn_estimate(seed)
        assert found.snips is not None
        for place, each in enumerate((found.ips, found.snips, found.dr)):
            hits[place] += each.low <= value <= each.high
    assert (hits >= 15).all(), hits


def test_little_overlap_is_said() -> None:
    log = exact_log(TRUTH)
    never = evaluate(replace(log, wanted=np.zeros(len(log.lists))))
    assert never.snips is None
    assert never.warning is not None
    assert "overlap is too small" in never.warning


@pytest.mark.parametrize(
    "change", [{"logged": 0.0}, {"logged": 1.5}, {"rewards": np.nan}, {"wanted": -0.1}]
)
def test_what_no_log_can_hold_is_refused(change: dict[str, float]) -> None:
    log = exact_log(TRUTH)
    bad = {name: np.full(len(log.lists), value) for name, value in change.items()}
    with pytest.raises(DataError, match="leave that list out"):
        evaluate(replace(log, **bad))
