"""A6: how well an attack tells members from others.

The intervals are over users, for the one model that was attacked; a guarantee is about the
average over runs. Scores are per user and higher for members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Floats, check_alpha, lower_bound, upper_bound

LEAST_OTHERS = {0.01: 100, 0.001: 1000}
"""Below this many non-members a false positive rate is unsupported: under one alarm."""


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided interval."""

    value: float
    low: float
    high: float


def auc(members: Floats, others: Floats, alpha: float = 0.05) -> Interval:
    """P[member scores higher] with DeLong's interval on the logit scale.

    Where every pair is in order DeLong's variance is zero; Newcombe's interval (2006, method 5,
    Hanley & McNeil's variance) stands in.

    Args:
        members: [n] scores of members.
        others: [n'] scores of non-members.
        alpha: one minus the confidence.

    Raises:
        PrivacyError: fewer than two of either, or NaN.
    """
    _check(members, others, alpha)
    n, m = len(members), len(others)
    both = rankdata(np.concatenate([members, others]))
    over = (both[:n] - rankdata(members)) / m  # share of others below each member
    under = 1 - (both[n:] - rankdata(others)) / n
    value = float(over.mean())
    variance = float(over.var(ddof=1) / n + under.var(ddof=1) / m)
    z = float(-ndtri(alpha / 2))
    if value in (0.0, 1.0):
        far = _newcombe(n, m, z)
        return Interval(1.0, far, 1.0) if value else Interval(0.0, 0.0, 1 - far)
    width = z * math.sqrt(variance) / (value * (1 - value))
    low, high = expit([logit(value) - width, logit(value) + width])
    return Interval(value, float(low), float(high))


def _newcombe(n: int, m: int, z: float) -> float:
    """The least θ whose interval still reaches 1."""

    def gap(theta: float) -> float:
        pairs = (n + m) / 2 - 1
        first, second = (1 - theta) / (2 - theta), theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + pairs * (first + second)) / (n * m)
        return 1 - theta - z * math.sqrt(variance)

    return float(brentq(gap, 0.5, 1 - 1e-12)) if gap(0.5) > 0 else 0.5


@dataclass(frozen=True)
class RatePoint:
    """True positive rate at a false positive rate.

    Attributes:
        asked: the false positive rate that was asked for.
        threshold: members are those above it; the least that alarms at most that often.
        false_alarm_bound: upper bound on the threshold's true false positive rate.
        true_positives: rate with its Clopper–Pearson interval.
    """

    asked: float
    threshold: float
    false_alarm_bound: float
    true_positives: Interval


def rate_at(members: Floats, others: Floats, rate: float, alpha: float = 0.05) -> RatePoint | None:
    """TPR at a fixed FPR, every bound at α/2; None where too few non-members support it.

    The threshold is an order statistic of the non-members, for which the Clopper–Pearson upper
    bound on its false positive rate holds although they chose it.

    Args:
        members: [n] scores.
        others: [n'] scores.
        rate: false positive rate, in (0, 1).
        alpha: of each two-sided interval.

    Raises:
        PrivacyError: fewer than two of either, or NaN.
    """
    _check(members, others, alpha)
    if len(others) < LEAST_OTHERS.get(rate, math.ceil(1 / rate)):
        return None
    allowed = math.floor(rate * len(others) + 1e-9)
    threshold = float(np.sort(others)[len(others) - 1 - allowed])
    hits = int((members > threshold).sum())
    return RatePoint(
        rate,
        threshold,
        upper_bound(allowed, len(others), alpha / 2),
        Interval(
            hits / len(members),
            lower_bound(hits, len(members), alpha / 2),
            upper_bound(hits, len(members), alpha / 2),
        ),
    )


def _check(members: Floats, others: Floats, alpha: float) -> None:
    check_alpha(alpha)
    for name, values in (("members", members), ("non-members", others)):
        if values.ndim != 1 or len(values) < 2 or np.isnan(values).any():
            raise PrivacyError(
                f"an attack's scores must be at least two numbers for {name}, none of them NaN; "
                f"got shape {values.shape} with {int(np.isnan(values).sum())} NaN"
            )
