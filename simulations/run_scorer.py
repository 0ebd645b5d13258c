"""A finished run as a scorer: its recommender with the run's adapter and prior loaded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.loaded_recommender import load_round
from common.recommender import Recommender
from common.run_folder import RunFolder
from simulations.evaluation.full_ranking import Scorer


def scorer_of(
    recommender: Recommender,
    adapter: dict[str, npt.NDArray[np.float32]],
    item_prior: npt.NDArray[np.float32],
) -> Scorer:
    """The recommender as a scorer, with `adapter` and prior ``[V]`` (or ``[0]``) loaded.

    On an accelerator the scores stay there to be ranked.
    """
    load_round(recommender, adapter, item_prior)
    return recommender.score_all if recommender.device.type == "cpu" else recommender.scores


def run_scorer(recommender: Recommender, folder: RunFolder) -> Scorer:
    """The recommender as a scorer, with the adapter and prior of the run in `folder` loaded."""
    return scorer_of(recommender, folder.read_adapter()[0], item_prior(folder))


def item_prior(folder: RunFolder) -> npt.NDArray[np.float32]:
    """The prior ``[V]`` that the run used, from its checkpoint; ``[0]`` where none was."""
    tensors, _ = folder.read_checkpoint()
    return np.asarray(tensors["item_prior"], dtype=np.float32)
