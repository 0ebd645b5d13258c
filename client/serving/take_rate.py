"""From a score to the chance that a user takes the item: the start of everything learned.

Scores order items; what explores needs a chance. A logistic curve through the site's own
histories gives one, before any feedback: score each of them as it was some time ago, and see
which items the user had later. It is fitted at the site and stays there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from common.errors import DataError

Floats = npt.NDArray[np.float64]
_RIDGE = 1e-3  # keeps the slope finite where scores separate the two kinds


class TakeRate(NamedTuple):
    """P(taken | score) = logistic(slope · score + level).

    Attributes:
        slope: at least 0, so that the best score stays the best.
        level: what a score of 0 has.
    """

    slope: float
    level: float

    def of(self, scores: npt.NDArray[np.floating]) -> Floats:
        """Chances for scores of any shape."""
        chances: Floats = expit(self.slope * scores.astype(np.float64) + self.level)
        return chances


def fit_take_rate(scores: npt.NDArray[np.floating], taken: npt.NDArray[np.bool_]) -> TakeRate:
    """The most likely curve.

    Args:
        scores: ``[n]``, finite.
        taken: ``[n]``, what came of each.

    Raises:
        DataError: nothing was taken, or everything, or a score is not finite.
    """
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all() or not taken.any() or taken.all():
        raise DataError(
            f"a take rate needs finite scores of items taken and of others, got {len(scores)} "
            f"scores and {int(taken.sum())} items taken; use histories of more than one item"
        )
    centre, width = scores.mean(), scores.std() or 1.0
    scaled = (scores - centre) / width

    def loss(at: Floats) -> tuple[float, Floats]:
        logits = at[0] * scaled + at[1]
        wrong = expit(logits) - taken
        value = np.mean(np.logaddexp(0, logits) - taken * logits) + _RIDGE * at[0] ** 2 / 2
        return float(value), np.array([np.mean(wrong * scaled) + _RIDGE * at[0], np.mean(wrong)])

    start = np.array([1.0, np.log(taken.mean() / (1 - taken.mean()))])
    found = minimize(loss, start, jac=True, bounds=[(0, None), (None, None)], method="L-BFGS-B")
    slope = float(found.x[0] / width)
    return TakeRate(slope, float(found.x[1] - slope * centre))
