"""The text floor, row (a): DP-Pop plus similarity of public text to the user's own items.

Only the popularity is released. The item texts are public and the similarity is computed
where the history lives, so it costs no ε. Private *learning* counts only what it adds to this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.holdout import UserSplit
from common.item_prior import item_prior_from_counts
from simulations.baselines.dp_popularity import (
    NOISE_DRAWS,
    NoiseForm,
    metrics_over_draws,
    release_deviation,
    unit_popularity,
)
from simulations.evaluation.full_ranking import PerUser, Scorer, Stage

WEIGHT_GRID: tuple[float, ...] = (3.0, 6.0, 9.0, 12.0, 18.0)


@dataclass(frozen=True)
class TextFloor:
    """Constants of the text floor, chosen on non-private validation (not covered by ε).

    Attributes:
        similarity_weight: weight of the cosine similarity beside the standardised popularity.
        half_lives: recency profiles of the history, in items; the profiles are averaged.
        window: most recent items that are read.
    """

    similarity_weight: float = 9.0
    half_lives: tuple[float, ...] = (1.0, 5.0, 20.0)
    window: int = 150


def text_floor_scorer(
    vectors: NDArray[np.float32],
    release: NDArray[np.float64],
    deviation: float,
    constants: TextFloor,
) -> Scorer:
    """Score by released popularity and recency-weighted text similarity.

    Args:
        vectors: float32[V, d], public text vectors of the catalogue (frozen BERT).
        release: float64[V], a noisy popularity (or the exact one with `deviation` 0).
        deviation: standard deviation of the noise in `release`.
        constants: see `TextFloor`.

    Returns:
        The scorer. An item is never similar to itself.
    """
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    prior = item_prior_from_counts(release, deviation)
    decay = np.log(0.5) / np.array(constants.half_lives)  # [L]

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        weights = np.zeros((len(histories), len(vectors)), dtype=np.float32)
        for row, history in enumerate(histories):
            recent = history[-constants.window :]
            ages = np.arange(len(recent) - 1, -1, -1)
            profiles = np.exp(ages[:, None] * decay)  # [n, L]
            mean_profile = (profiles / profiles.sum(axis=0)).mean(axis=1)
            np.add.at(weights[row], recent, mean_profile)
        similarity = (weights @ unit) @ unit.T - weights * (unit**2).sum(axis=1)
        scores: NDArray[np.float32] = prior + constants.similarity_weight * similarity
        return scores.astype(np.float32)

    return score


def text_floor_metrics(
    vectors: NDArray[np.float32],
    splits: Sequence[UserSplit],
    stage: Stage,
    *,
    epsilon: float,
    delta: float,
    form: NoiseForm,
    sites: int,
    constants: TextFloor | None = None,
    draws: int = NOISE_DRAWS,
) -> PerUser:
    """Evaluate the text floor; the whole ε goes to its one popularity release.

    Args:
        vectors: float32[V, d], public text vectors of the catalogue.
        splits: one per user.
        stage: `validation` or `test`.
        epsilon: per user.
        delta: per user.
        form: `central` or `local` noise on the popularity.
        sites: number of sites (used by `local` only).
        constants: left out, the documented ones.
        draws: noise draws to average over.

    Returns:
        The metrics of each user, averaged over the draws.
    """
    chosen = constants or TextFloor()
    deviation = release_deviation(epsilon, delta, form, sites)
    popularity = unit_popularity(splits, len(vectors))

    def to_scorer(release: NDArray[np.float64]) -> Scorer:
        return text_floor_scorer(vectors, release, deviation, chosen)

    return metrics_over_draws(popularity, deviation, to_scorer, splits, stage, draws)


def choose_text_floor(
    vectors: NDArray[np.float32],
    splits: Sequence[UserSplit],
    *,
    epsilon: float,
    delta: float,
    form: NoiseForm,
    sites: int,
    grid: Sequence[float] = WEIGHT_GRID,
) -> TextFloor:
    """Choose the similarity's weight by NDCG@10 on validation; test is never read.

    Returns:
        The constants with the best weight of `grid`.
    """
    best, best_quality = TextFloor(), -1.0
    for weight in grid:
        constants = replace(TextFloor(), similarity_weight=weight)
        metrics = text_floor_metrics(
            vectors,
            splits,
            "validation",
            epsilon=epsilon,
            delta=delta,
            form=form,
            sites=sites,
            constants=constants,
        )
        quality = float(metrics.ndcg_10.mean())
        if quality > best_quality:
            best, best_quality = constants, quality
    return best
