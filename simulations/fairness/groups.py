"""Who is served how well: utility per group of users, gaps, and inequality among users.

In the lab only: outside a simulation, group statistics are releases and cost ε.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fairlearn.metrics import MetricFrame, count, mean_prediction
from numpy.typing import NDArray
from scipy.stats import bootstrap

from common.age_bands import UNKNOWN, age_band
from common.errors import DataError
from simulations.evaluation.full_ranking import PerUser
from simulations.evaluation.intervals import RESAMPLES, Interval, mean_interval

POOL_UNDER = 30
POOLED = "all smaller groups"
GENDER_LIMIT = "The data set records gender as binary; that is a limit of the data set."
HOLD_OUT_LIMIT = (
    "A hold-out of a single item gives group intervals of about ±.03 on a mean of .07, too wide "
    "to compare groups; the last_fifth split is the powered comparison."
)


@dataclass(frozen=True)
class GroupUtility:
    """Mean utility of one group of `n` users, with its 95% interval over users."""

    group: str
    n: int
    utility: Interval


@dataclass(frozen=True)
class GroupReport:
    """Utility by one attribute.

    Attributes:
        attribute: for instance `gender`.
        groups: best first.
        gap: highest minus lowest mean; its interval is given for two groups only, because
            with more the extreme pair was picked by looking.
        ratio: lowest over highest mean (NaN when the highest is zero).
        worst_group: name of the group with the lowest mean.
    """

    attribute: str
    groups: tuple[GroupUtility, ...]
    gap: Interval
    ratio: float
    worst_group: str


def pool_small_groups(labels: Sequence[str], minimum: int = POOL_UNDER) -> list[str]:
    """Put all groups with fewer than `minimum` users into one."""
    sizes = Counter(labels)
    return [label if sizes[label] >= minimum else POOLED for label in labels]


def attribute_labels(attributes: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Turn users' attributes into the group labels that are reported.

    Args:
        attributes: values per user by name; only gender, age and occupation are grouped.

    Returns:
        Labels per user by attribute, gender first; ages as bands, small occupations pooled.
    """
    labels: dict[str, list[str]] = {}
    if "gender" in attributes:
        labels["gender"] = [value.strip() or UNKNOWN for value in attributes["gender"]]
    if "age" in attributes:
        labels["age"] = [age_band(value) for value in attributes["age"]]
    if "occupation" in attributes:
        labels["occupation"] = pool_small_groups(list(attributes["occupation"]))
    return labels


def group_utility(
    attribute: str,
    labels: Sequence[str],
    utility: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> GroupReport:
    """Compute the utility of each group with its interval, the gap and the ratio.

    Args:
        attribute: name of the attribute.
        labels: one group name per user.
        utility: float64[U], for instance NDCG@10.
        resamples: bootstrap resamples of the users of each group.
        seed: seeds the resampling.

    Returns:
        The report.

    Raises:
        DataError: labels and utilities do not hold the same number of users, or none.
    """
    if len(labels) != len(utility) or len(labels) == 0:
        raise DataError(
            f"groups by {attribute} need one label per user, got {len(labels)} labels for "
            f"{len(utility)} users; align users with the evaluation"
        )
    names = np.array(labels)
    frame = MetricFrame(
        metrics={"utility": mean_prediction, "n": count},
        y_true=np.zeros(len(utility)),
        y_pred=utility,
        sensitive_features={attribute: names},
    )
    means = frame.by_group["utility"].sort_values(ascending=False)
    samples = {str(name): utility[names == name] for name in means.index}
    groups = tuple(
        GroupUtility(
            group=name,
            n=int(frame.by_group.loc[name, "n"]),
            utility=mean_interval(values, resamples=resamples, seed=seed),
        )
        for name, values in samples.items()
    )
    best, worst = groups[0], groups[-1]
    return GroupReport(
        attribute=attribute,
        groups=groups,
        gap=_gap(samples[best.group], samples[worst.group], len(groups), resamples, seed),
        ratio=float(frame.ratio(method="between_groups")["utility"]),
        worst_group=worst.group,
    )


def group_reports(
    metrics: PerUser,
    user_ids: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    *,
    metric: str = "ndcg_10",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[GroupReport]:
    """Report the utility of an evaluation by every known attribute.

    Args:
        metrics: the evaluation; its users may be fewer than the data set's.
        user_ids: the data set's users.
        attributes: their attributes, aligned with `user_ids`.
        metric: the utility.
        resamples: bootstrap resamples.
        seed: seeds the resampling.

    Returns:
        One report per attribute, gender first; none when there are no attributes.

    Raises:
        DataError: an evaluated user is not in `user_ids`.
    """
    place = {user: number for number, user in enumerate(user_ids)}
    unknown = [user for user in metrics.user_ids if user not in place]
    if unknown:
        raise DataError(
            f"evaluated user {unknown[0]!r} has no attributes ({len(unknown)} such users); "
            "pass the users of the same data set"
        )
    rows = [place[user] for user in metrics.user_ids]
    mine = {name: [values[row] for row in rows] for name, values in attributes.items()}
    return [
        group_utility(name, labels, metrics.metric(metric), resamples=resamples, seed=seed)
        for name, labels in attribute_labels(mine).items()
    ]


def user_gini(utility: NDArray[np.float64]) -> float:
    """Compute the Gini coefficient of users' utilities: 0 equal, towards 1 unequal.

    Σᵢ(2i − n − 1)·y₍ᵢ₎ / (n·Σy) over the sorted utilities; 0 when every utility is zero.
    """
    ordered = np.sort(utility)
    n, total = len(ordered), float(ordered.sum())
    if total == 0.0:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))


def _gap(
    best: NDArray[np.float64],
    worst: NDArray[np.float64],
    groups: int,
    resamples: int,
    seed: int,
) -> Interval:
    """Difference of two groups' means; an interval only where exactly two groups exist."""
    gap = float(best.mean() - worst.mean())
    if groups != 2 or min(len(best), len(worst)) < 2:
        return Interval(gap, float("nan"), float("nan"))
    result = bootstrap(
        (best, worst),
        _difference_of_means,
        n_resamples=resamples,
        batch=100,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(gap, float(low), float(high))


def _difference_of_means(
    first: NDArray[np.float64], second: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    difference: NDArray[np.float64] = first.mean(axis=axis) - second.mean(axis=axis)
    return difference
