"""Metrics of impressions: how the clicked items of what was shown rank among the others.

As MIND defines them (Wu et al. 2020, section 4.1; its published evaluation code): each metric of
each impression, then the mean over impressions. MIND leaves the order of equal scores to the
sort; here they stand against the clicked items, and count half in the AUC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]
IMPRESSION_METRICS = ("auc", "mrr", "ndcg_5", "ndcg_10")


def impression_metrics(clicked: NDArray[np.bool_], scores: Floats) -> Floats:
    """``[4]``, in the order of `IMPRESSION_METRICS`, of one impression.

    Args:
        clicked: bool[n], at least one true and one false.
        scores: float64[n]; NaN is as low as a score can be.
    """
    low = np.nextafter(np.nanmin(scores, initial=0.0), -np.inf) - 1.0
    clean = np.where(np.isnan(scores), low, scores)
    order = np.lexsort((clicked, -clean))  # of equal scores those not clicked come first
    gains = clicked[order].astype(np.float64)
    places = np.arange(1, len(gains) + 1)
    return np.array(
        [
            roc_auc_score(clicked, clean),
            (gains / places).sum() / gains.sum(),
            _ndcg(gains, 5),
            _ndcg(gains, 10),
        ]
    )


def _ndcg(gains: Floats, k: int) -> float:
    discount = 1.0 / np.log2(np.arange(2, len(gains[:k]) + 2))
    ideal = np.sort(gains)[::-1][:k]
    return float((gains[:k] * discount).sum() / (ideal * discount).sum())
