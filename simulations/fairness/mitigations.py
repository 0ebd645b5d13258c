"""What mitigation does to a run's model after training: personal towers, re-ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.personalisation import personal_tower
from common.config import RunConfig
from common.context import ContextEncoder
from common.metrics import METRIC_NAMES
from common.privacy_units import make_units
from common.randomness import seeded_source
from common.recommender import Recommender
from common.reranking import penalise_popularity
from simulations.evaluation.full_ranking import PerUser
from simulations.evaluation.top_lists import evaluate_with_lists
from simulations.fairness.fairness_row import Audience, EvaluatedLists, evaluated


def mitigation_rows(
    name: str,
    recommender: Recommender,
    config: RunConfig,
    audience: Audience,
    site_of_user: NDArray[np.int64],
) -> Iterator[EvaluatedLists]:
    """Evaluate the options that `config.evaluation` switches on, each by itself.

    Args:
        name: of the model's own row.
        recommender: with the model and its prior loaded; it is left as it was.
        config: of the run.
        audience: whom to evaluate.
        site_of_user: int64 ``[U]``, the site of each user of the audience.

    Yields:
        One row per option.
    """
    if config.evaluation.personal_steps > 0:
        yield personal_row(name, recommender, config, audience, site_of_user)
    if config.evaluation.exposure_penalty > 0:
        yield reranked_row(name, recommender, config, audience)


def personal_row(
    name: str,
    recommender: Recommender,
    config: RunConfig,
    audience: Audience,
    site_of_user: NDArray[np.int64],
) -> EvaluatedLists:
    """Evaluate every site's users under the site's own user tower."""
    parts: list[tuple[PerUser, NDArray[np.int64]]] = []
    members = [np.flatnonzero(site_of_user == site) for site in np.unique(site_of_user)]
    for users in members:
        splits = [audience.splits[user] for user in users]
        units = make_units(
            splits,
            max_history=config.model.max_history,
            encoder=ContextEncoder.of(config.model),
        )
        source = seeded_source(config.federation.seed, "personal", splits[0].user_id)
        with personal_tower(recommender, units, config, source):
            parts.append(
                evaluate_with_lists(recommender.score_all, splits, "test", seed=audience.seed)
            )
    steps, lr = config.evaluation.personal_steps, config.evaluation.personal_lr
    return EvaluatedLists(
        name=f"{name} + personal towers",
        kind="mitigation",
        metrics=_in_order([metrics for metrics, _ in parts], np.concatenate(members)),
        lists=np.concatenate([lists for _, lists in parts])[np.argsort(np.concatenate(members))],
        note=f"{steps} local steps at {lr:g} of each site's user side; never released, no ε",
    )


def reranked_row(
    name: str, recommender: Recommender, config: RunConfig, audience: Audience
) -> EvaluatedLists:
    """Evaluate the model with its lists re-ranked against popularity."""
    strength = config.evaluation.exposure_penalty
    prior = recommender.item_prior.cpu().numpy()

    def scorer(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        scores = recommender.score_all(histories)
        return penalise_popularity(scores, histories, prior, strength)

    note = f"strength {strength:g} on the released popularity, within each user's 100 best; no ε"
    return evaluated(f"{name} + exposure re-ranking", "mitigation", scorer, audience, note)


def _in_order(parts: Sequence[PerUser], place: NDArray[np.int64]) -> PerUser:
    """Put the users of several evaluations at their places ``[U]`` in the audience."""
    order = np.argsort(place)
    user_ids = [user for part in parts for user in part.user_ids]
    ranks = [rank for part in parts for rank in part.ranks]
    values = {
        name: np.concatenate([part.metric(name) for part in parts])[order] for name in METRIC_NAMES
    }
    return PerUser(
        user_ids=tuple(user_ids[row] for row in order),
        ranks=tuple(ranks[row] for row in order),
        left_out=sum(part.left_out for part in parts),
        **values,
    )
