"""The protocol of most papers: the target among 99 sampled negatives. Comparability only.

Sampled metrics do not keep the order of models (Krichene & Rendle, KDD 2020), and published
federated recommenders add a leak to it, see `LEAK_NOTE`. So no claim rests on these figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import Stage, UserSplit, history_of
from common.metrics import METRIC_NAMES, user_metrics
from simulations.evaluation.full_ranking import PerUser, judged_users, mean_over_draws

NEGATIVES = 99
DRAWS = 5
LABEL = "comparability only"
LEAK_NOTE = (
    "Papers report this protocol, so it stands here for comparison and carries no claim: sampled "
    "metrics do not keep the order of models. The code published with PFedRec, GPFedRec, FedRAP, "
    "CoFedRec and FedCA trains on negatives that never include the test item, so that a scorer "
    "that only remembers what was never drawn reaches HR@10 1.000 with 99 negatives; figures from "
    "there are no goals. Here negatives of training know the training items alone."
)


def sampled_metrics(
    found: PerUser,
    splits: Sequence[UserSplit],
    stage: Stage,
    items: int,
    *,
    negatives: int = NEGATIVES,
    draws: int = DRAWS,
    seed: int = 0,
) -> PerUser:
    """Rank each target among sampled negatives, averaged over draws.

    The negatives are drawn without repeats from all items outside the user's known history,
    except the target itself; other held-out items of the user may be among them. Of N
    candidates, r-1 stand before a target of rank r in the full list, so the number of those
    among n negatives is hypergeometric (r-1 before, N-r behind, n drawn): it is drawn as such,
    and nothing is scored again. Ties count against the target, as in the full ranking.

    Args:
        found: the full ranking of `splits` at `stage`, with ranks.
        splits: one per user, as they were ranked.
        stage: `validation` or `test`.
        items: V, size of the catalogue.
        negatives: for each target and draw; all there are where there are fewer.
        draws: of the negatives.
        seed: seeds the draws only.

    Returns:
        The metrics of each user, averaged over draws and, with several targets, over them.

    Raises:
        DataError: `found` is an average without ranks, or of other users.
    """
    judged = judged_users(splits, stage)
    if tuple(split.user_id for split in judged) != found.user_ids or not found.ranks:
        raise DataError(
            f"sampled metrics need the ranks of the same {len(judged)} users, got "
            f"{len(found.ranks)} ranks of {len(found.user_ids)}; pass a full ranking of one scorer"
        )
    counts = np.array([len(row) for row in found.ranks])
    seen = np.array([len(np.unique(history_of(split, stage))) for split in judged])
    candidates = np.repeat(items - seen, counts)  # [T]
    before = np.concatenate(found.ranks) - 1  # [T]
    drawn = np.minimum(negatives, candidates - 1)
    rng = np.random.default_rng(seed)
    behind = candidates - 1 - before
    ranks = [1 + rng.hypergeometric(before, behind, drawn) for _ in range(draws)]
    return mean_over_draws([_per_user(found, rank, counts) for rank in ranks])


def _per_user(found: PerUser, ranks: NDArray[np.int64], counts: NDArray[np.int64]) -> PerUser:
    """Each target is a ranking of its own; a user's metrics are the mean over their targets."""
    single = user_metrics(np.split(ranks, len(ranks)))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    means = {name: np.add.reduceat(single[name], starts) / counts for name in METRIC_NAMES}
    return PerUser(user_ids=found.user_ids, ranks=(), left_out=found.left_out, **means)
