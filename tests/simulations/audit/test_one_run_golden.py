"""Golden values of jax_privacy's tests: 10,000 canaries in, 10,000 out, normal scores.

They come from a rule of their own: "in" guesses only, the best of all numbers of guesses on
the hull of the ROC curve, and α divided by how many those are. The product never shops for
thresholds; the rule is written out here to reach the published numbers.
"""

import numpy as np
import pytest
from scipy.stats import norm

from simulations.audit.one_run import f_dp, steinke
from simulations.audit.one_run.guesses import Guesses

N, DELTA, ALPHA = 10_000, 1e-6, 0.05
GOLDEN = [  # bound, shift of the scores, ε, and the (made, right) guesses that give it
    (steinke.epsilon_lower_bound, 1, 1.13346, (3376, 2807)),
    (steinke.epsilon_lower_bound, 2, 2.311945, (4666, 4499)),
    (steinke.epsilon_lower_bound, 4, 4.395568, (8233, 8223)),
    (f_dp.gaussian_epsilon_lower_bound, 1, 2.164749, (406, 379)),
    (f_dp.gaussian_epsilon_lower_bound, 2, 4.7218075, (938, 934)),
    (f_dp.gaussian_epsilon_lower_bound, 4, 9.133752, (5436, 5436)),
]


def roc_hull(shift):
    """(made, right) "in" guesses at every corner of the ROC curve's hull, both ends included."""
    grid = norm.ppf((np.arange(N) + 0.5) / N)
    thresholds = np.concatenate([[np.inf], np.unique([grid, grid + shift])[::-1]])
    right = N - np.searchsorted(grid + shift, thresholds)
    wrong = N - np.searchsorted(grid, thresholds)
    hull = []
    for point in zip(wrong.tolist(), right.tolist(), strict=True):
        while len(hull) > 1 and not _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return [(x + y, y) for x, y in hull]


def _turns_right(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) < 0


@pytest.mark.parametrize(("bound", "shift", "expected", "best"), GOLDEN)
def test_golden_value(bound, shift, expected, best):
    hull = roc_hull(shift)
    assert best in hull
    assert bound(Guesses(2 * N, *best), DELTA, ALPHA / len(hull)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("bound", [GOLDEN[0][0], GOLDEN[-1][0]])
def test_scores_that_say_nothing_give_nothing(bound):
    hull = roc_hull(0)
    assert max(bound(Guesses(2 * N, *each), DELTA, ALPHA / len(hull)) for each in hull) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "shift", "expected", "best"), GOLDEN)
def test_no_other_number_of_guesses_is_better(bound, shift, expected, best):
    hull = roc_hull(shift)
    alpha = ALPHA / len(hull)
    better = expected * (1 + 1e-5)
    for made, right in hull:
        # What cannot refute ε at δ = 0 (Steinke) or has no precision cannot be the best.
        if (made, right) == best or not 2 * right > made:
            continue
        outcome = Guesses(2 * N, made, right)
        if bound is steinke.epsilon_lower_bound:
            assert steinke.p_value(outcome, better, DELTA) >= alpha
        else:
            curve = f_dp.GaussianTradeOff(mu_of(better))
            assert f_dp.refutation(outcome, curve, alpha) <= 0


def mu_of(epsilon):
    from dp_accounting import get_sigma_gaussian

    return 1 / get_sigma_gaussian(epsilon, DELTA)
