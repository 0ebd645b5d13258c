"""Re-ranking for exposure: popular items make way, as far as one strength says.

A site does it on its own users' lists with the public popularity prior of the run: nothing
leaves the site, so it costs no ε.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

DEPTH = 100


def penalise_popularity(
    scores: NDArray[np.float32],
    histories: Sequence[NDArray[np.int64]],
    prior: NDArray[np.float32],
    strength: float,
    *,
    depth: int = DEPTH,
) -> NDArray[np.float32]:
    """Re-rank each user's `depth` best candidates by score less strength × popularity.

    Within a user's best candidates scores are standardised, so that one strength means the
    same for every model and user: it trades deviations of the score for deviations of the
    catalogue's logarithmic popularity. Items beyond them keep their places, so that nothing
    irrelevant is pulled up. The scores themselves are dealt out anew, best to the new first.

    Args:
        scores: float32 ``[U, V]``, higher is better.
        histories: U arrays of item indices that are no candidates.
        prior: float32 ``[V]``, standardised log popularity (`item_prior_from_counts`).
        strength: λ ≥ 0; 0 changes nothing.
        depth: candidates that are re-ranked.

    Returns:
        float32 ``[U, V]``.

    Raises:
        DataError: λ is negative or not finite, or the prior is of another catalogue.
    """
    if not (np.isfinite(strength) and strength >= 0) or prior.shape != scores.shape[1:]:
        raise DataError(
            f"re-ranking needs a finite strength of at least 0 and a prior of the catalogue, got "
            f"{strength} and {prior.shape} for scores {scores.shape}; set "
            "evaluation.exposure_penalty"
        )
    candidates = np.where(np.isnan(scores), -np.inf, scores)
    for row, history in enumerate(histories):
        candidates[row, history] = -np.inf
    best = np.argsort(-candidates, axis=1, kind="stable")[:, :depth]  # [U, D]
    values = np.take_along_axis(candidates, best, 1)
    penalised = _standardised(values) - strength * prior[best]
    order = np.argsort(np.where(np.isfinite(values), -penalised, np.inf), axis=1, kind="stable")
    result = np.array(scores, dtype=np.float32)
    np.put_along_axis(result, np.take_along_axis(best, order, 1), values, axis=1)
    for row, history in enumerate(histories):  # no candidate, as before
        result[row, history] = scores[row, history]
    return result


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows with mean 0 and deviation 1 over their finite values; others are zero."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    wide = np.where(known, values, 0.0).astype(np.float64)
    centred = np.where(known, wide - wide.sum(axis=1, keepdims=True) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))
