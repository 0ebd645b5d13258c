"""Trade-off curves: the least type II error that a claim leaves a test of membership.

A claim holds for both directions, adding and removing a unit, so every curve here is
symmetric (Dong, Roth & Su 2019, Proposition 2.4): f is its own inverse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from scipy.special import ndtr, ndtri

from common.accounting import epsilon
from common.errors import PrivacyError
from common.gaussian_accounting import composed_noise_multiplier
from common.privacy_events import (
    GaussianEvent,
    MergedHistory,
    PrivacyEvent,
    history_log_ratio,
    merge_events,
)
from simulations.audit.binomial_bounds import Floats

_POINTS = 2000
_LEAST_DELTA = 1e-12
_INTERVAL = 1e-4


class TradeOff(Protocol):
    """A symmetric trade-off curve f."""

    def least_miss_rate(self, false_alarm_rate: float) -> float:
        """f(x): no test with this type I error has a smaller type II error."""
        ...

    def blow_up_inverse(self, probability: float) -> float:
        """f(1 − y): an event of probability y has at least this much where f holds."""
        ...


@dataclass(frozen=True)
class GaussianTradeOff:
    """f(x) = Φ(Φ⁻¹(1−x) − μ): telling N(0, 1) from N(μ, 1)."""

    mu: float

    def least_miss_rate(self, false_alarm_rate: float) -> float:
        """f(x) in closed form."""
        return float(ndtr(-ndtri(false_alarm_rate) - self.mu))

    def blow_up_inverse(self, probability: float) -> float:
        """f(1 − y) = Φ(Φ⁻¹(y) − μ), exact for the smallest y."""
        return float(ndtr(ndtri(probability) - self.mu))


@dataclass(frozen=True, eq=False)
class ProfileTradeOff:
    """The curve that a grid of guarantees (εᵢ, δᵢ), all of one claim, leaves (Prop. 2.12).

    A finite grid says a little less than the claim, so that what is refuted here is refuted
    of the claim.

    Attributes:
        epsilons: [K] each at least 0.
        deltas: [K] in [0, 1].
    """

    epsilons: Floats
    deltas: Floats

    def least_miss_rate(self, false_alarm_rate: float) -> float:
        """f(x) = max(0, 1 − δ − e^ε·x, e^−ε·(1 − δ − x)) over the grid."""
        return self._at(false_alarm_rate, 1 - false_alarm_rate)

    def blow_up_inverse(self, probability: float) -> float:
        """f(1 − y), exact for the smallest y."""
        return self._at(1 - probability, probability)

    def _at(self, rate: float, rest: float) -> float:
        left = 1 - self.deltas - self._growth * rate
        right = (rest - self.deltas) / self._growth
        return float(max(0.0, left.max(), right.max()))

    @cached_property
    def _growth(self) -> Floats:
        return np.exp(self.epsilons)


def claimed_trade_off(history: Sequence[PrivacyEvent]) -> TradeOff:
    """The curve of what a history of releases claims; remembered per distinct history.

    Full participation is one Gaussian, in closed form; sampled releases come from privacy loss
    distributions with pessimistic rounding; the terms of distributed discrete noise are added
    as in `common.accounting`.

    Raises:
        PrivacyError: an empty history, or one whose ε is out of reach (hardly any noise).
        UnknownEventError: an event that no theorem covers.
    """
    merged = merge_events(history)
    if not merged:
        raise PrivacyError("an empty history claims nothing that an audit could refute")
    ratio = history_log_ratio(history)
    plain = [event for event in merged if isinstance(event, GaussianEvent)]
    if len(plain) == len(merged) and ratio == 0:
        return GaussianTradeOff(1 / composed_noise_multiplier(plain))
    curve = _profile(merged)
    if ratio == 0:
        return curve
    return ProfileTradeOff(curve.epsilons + 2 * ratio, np.minimum(1, curve.deltas * np.exp(ratio)))


@lru_cache(maxsize=256)
def _profile(merged: MergedHistory) -> ProfileTradeOff:
    size = epsilon(merged, 1e-6, "rdp")
    if not math.isfinite(size):
        raise PrivacyError("the claim's trade-off curve is out of reach: hardly any noise, ε = inf")
    interval = _INTERVAL * max(1.0, size / 10)  # time and memory grow with ε ÷ interval
    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for event in merged:
        rate = 1.0 if isinstance(event, GaussianEvent) else event.sample_rate
        count = event.count if isinstance(event, GaussianEvent) else event.steps
        one = privacy_loss_distribution.from_gaussian_mechanism(
            event.noise_multiplier, sampling_prob=rate, value_discretization_interval=interval
        )
        total = total.compose(one.self_compose(count))
    largest = min(total.get_epsilon_for_delta(_LEAST_DELTA), 700.0)  # e^709 is a float's end
    epsilons = np.linspace(0.0, largest, _POINTS)
    return ProfileTradeOff(epsilons, np.asarray(total.get_delta_for_epsilon(epsilons)))
