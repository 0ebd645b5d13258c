"""DP's disparate impact: what each group loses to privacy (Bagdasaryan et al., NeurIPS 2019).

Δ_g(ε) = ȳ_g(∞) − ȳ_g(ε) over the same users under both models, and its spread over groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import DataError
from simulations.evaluation.full_ranking import PerUser
from simulations.evaluation.intervals import RESAMPLES, Interval
from simulations.fairness.groups import attribute_labels
from simulations.fairness.user_intervals import Floats, group_means, percentile_interval


@dataclass(frozen=True)
class GroupLoss:
    """What one group of `n` users lost: in utility, and relative to what it had (or NaN)."""

    group: str
    n: int
    loss: Interval
    relative_loss: Interval


@dataclass(frozen=True)
class Impact:
    """Losses by one attribute.

    Attributes:
        attribute: for instance `gender`.
        groups: hardest hit first.
        spread: max − min over groups of the loss, zero when all pay alike. Resampling adds
            noise to every group, so that with many groups its interval leans upwards.
        relative_spread: the same of the relative losses; NaN where a group had nothing to lose.
    """

    attribute: str
    groups: tuple[GroupLoss, ...]
    spread: Interval
    relative_spread: Interval


def disparate_impact(
    attribute: str,
    labels: Sequence[str],
    without: Floats,
    private: Floats,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Impact:
    """Compute what each group loses to privacy.

    Args:
        attribute: name of the attribute.
        labels: one group name per user.
        without: float64 ``[U]``, utilities under the model without privacy.
        private: float64 ``[U]``, of the same users under the private model.
        resamples: paired bootstrap resamples of the users of each group.
        seed: seeds the resampling.

    Raises:
        DataError: the three do not hold the same number of users, or none.
    """
    if not len(labels) == len(without) == len(private) or len(labels) == 0:
        raise DataError(
            f"the impact by {attribute} needs the same users twice with a label each, got "
            f"{len(labels)} labels, {len(without)} and {len(private)} utilities; evaluate both "
            "models on the same split"
        )
    names, group = np.unique(np.array(labels), return_inverse=True)
    both = np.column_stack([without, without - private])
    means = group_means(both, group, resamples=resamples, seed=seed)
    loss, drawn_loss = means.means[:, 1], means.drawn[..., 1]
    relative = _relative(means.means)
    drawn_relative = _relative(means.drawn)
    groups = [
        GroupLoss(
            group=str(name),
            n=int(means.sizes[number]),
            loss=means.interval(number, 1),
            relative_loss=_interval(
                float(relative[number]), drawn_relative[:, number], int(means.sizes[number])
            ),
        )
        for number, name in enumerate(names)
    ]
    return Impact(
        attribute=attribute,
        groups=tuple(sorted(groups, key=lambda each: -each.loss.mean)),
        spread=percentile_interval(float(np.ptp(loss)), np.ptp(drawn_loss, axis=1)),
        relative_spread=percentile_interval(
            float(np.ptp(relative)), np.ptp(drawn_relative, axis=1)
        ),
    )


def impact_by_attribute(
    without: PerUser,
    private: PerUser,
    user_ids: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Impact]:
    """Compute the disparate impact on NDCG@10 by every known attribute.

    Args:
        without: the evaluation of the model without privacy.
        private: that of the private model, same users in the same order; averaged over
            noise seeds where there are several (`mean_over_draws`).
        user_ids: the data set's users.
        attributes: their attributes, aligned with `user_ids`.
        resamples: bootstrap resamples.
        seed: seeds the resampling.

    Raises:
        DataError: the two evaluations do not hold the same users, or hold one that
            `user_ids` lacks.
    """
    place = {user: number for number, user in enumerate(user_ids)}
    if without.user_ids != private.user_ids or not set(without.user_ids) <= set(place):
        raise DataError(
            f"the impact of privacy needs the same known users in both evaluations, got "
            f"{len(without.user_ids)} and {len(private.user_ids)}; evaluate both on one split"
        )
    rows = [place[user] for user in without.user_ids]
    mine = {name: [values[row] for row in rows] for name, values in attributes.items()}
    return [
        disparate_impact(
            name, labels, without.ndcg_10, private.ndcg_10, resamples=resamples, seed=seed
        )
        for name, labels in attribute_labels(mine).items()
    ]


def _relative(means: Floats) -> Floats:
    """``[…, G, 2]`` of utility and loss to loss ÷ utility ``[…, G]``; NaN where there was none."""
    had, lost = means[..., 0], means[..., 1]
    return np.where(had > 0, lost / np.where(had > 0, had, 1.0), np.nan)


def _interval(value: float, drawn: Floats, users: int) -> Interval:
    return percentile_interval(value, drawn) if users > 1 else Interval(value, math.nan, math.nan)
