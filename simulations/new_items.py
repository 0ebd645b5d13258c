"""Scoring a catalogue that got new items after training, by what was trained before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.adapters import Adapter
from common.loaded_recommender import load_round
from common.recommender import Recommender
from simulations.cold_items import IntArray, known_items
from simulations.evaluation.full_ranking import Scorer, Scores


def with_new_items(
    recommender: Recommender,
    trained: Recommender,
    adapter: Adapter,
    item_prior: NDArray[np.float32],
    cold: IntArray,
) -> Scorer:
    """A scorer of the whole catalogue by what was trained before `cold` items came.

    The whitening stays that of training. Nobody can have interacted with a new item, so that
    no count says that it is unpopular: it gets the mean prior of the others, and no item code.
    Which items are new is public.

    Args:
        recommender: over the whole catalogue; its constants become those of `trained`.
        trained: over training's catalogue.
        adapter: the run's.
        item_prior: float32[W] of training's catalogue, or [0] of a run without.
        cold: the new items.
    """
    for own, other in (
        (recommender.whitening.mean, trained.whitening.mean),
        (recommender.whitening.matrix, trained.whitening.matrix),
        (recommender.whitening.scale, trained.whitening.scale),
        (recommender.score.softening, trained.score.softening),
    ):
        own.copy_(other)
    size = len(recommender.item_prior)
    prior = np.zeros(size, dtype=np.float32)
    lift = np.zeros(size, dtype=np.float32)
    recommender.keep_table_for("")  # made with other constants
    if len(item_prior):
        prior[known_items(cold, size)] = item_prior
        prior[cold] = item_prior.min() - 1  # below all, so that item codes stay where they were
    load_round(recommender, adapter, prior)
    weight = float(recommender.score.prior.weight.item())
    if len(item_prior):
        lift[cold] = weight * (item_prior.mean() - prior[cold])

    def score(histories: Sequence[IntArray]) -> Scores:
        return recommender.score_all(histories) + lift

    return score
