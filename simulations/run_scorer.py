"""A finished run as a scorer: its recommender with the run's adapter and statistics loaded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.loaded_recommender import load_round
from common.recommender import Recommender
from common.run_folder import RunFolder
from simulations.evaluation.full_ranking import Scorer
from simulations.run_statistics import RunStatistics, run_statistics


def scorer_of(
    recommender: Recommender,
    adapter: dict[str, npt.NDArray[np.float32]],
    statistics: RunStatistics,
) -> Scorer:
    """The recommender as a scorer, with `adapter` and a run's statistics of items loaded.

    On an accelerator the scores stay there to be ranked.
    """
    load_round(recommender, adapter, *statistics)
    return recommender.score_all if recommender.device.type == "cpu" else recommender.scores


def run_scorer(recommender: Recommender, folder: RunFolder) -> Scorer:
    """The recommender as a scorer, with what the run in `folder` has loaded."""
    return scorer_of(recommender, folder.read_adapter()[0], run_statistics(folder))
