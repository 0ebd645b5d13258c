"""A4: telling one real step with a canary from the same step without it.

The tight check of noise and clipping (after Nasr et al. 2023): what one release claims is
that N(0, σ²) and N(1, σ²) are the hardest two worlds to tell apart, so that a test that tells
them apart better than μ = 1/σ refutes the claim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from scipy.special import ndtr, ndtri

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import SampledGaussianEvent
from simulations.audit.binomial_bounds import Floats, check_alpha, upper_bound
from simulations.audit.finding import Finding

_HELD_OUT = 4  # one observation in four chooses the threshold
_FINEST = 1e-5  # of the grid of privacy losses: memory
_SEEN = 0.5  # a correct build whose bound is below this share of 1/σ did not see the canary


@dataclass(frozen=True, eq=False)
class StepObservations:
    """s = ⟨noisy sum, g⟩ ÷ (C‖g‖) of many single steps, g the canary's gradient.

    Attributes:
        without: [n] steps without the canary.
        with_canary: [n'] steps with it, its raw norm at least 10·C, always sampled.
        noise_multiplier: claimed σ.
        sample_rate: q in (0, 1] that check A3 verified.
        steps: T of the run.
        delta: δ of the claim.
    """

    without: Floats
    with_canary: Floats
    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float


@dataclass(frozen=True)
class StepBound:
    """What the observations show about μ, the distance of the two worlds in noise deviations.

    Attributes:
        threshold: "in" above it.
        false_alarm_bound: upper bound on P[s > threshold] without the canary.
        miss_bound: upper bound on P[s ≤ threshold] with it.
        mu: μ_lb, at confidence 1 − α; negative or −inf where nothing was seen.
    """

    threshold: float
    false_alarm_bound: float
    miss_bound: float
    mu: float


def distance_lower_bound(without: Floats, with_canary: Floats, alpha: float) -> StepBound:
    """μ_lb = Φ⁻¹(1 − FPR_ub) − Φ⁻¹(FNR_ub), Clopper–Pearson at α/2 each.

    The first quarter of either array sets the threshold, midway between their medians, and
    is not counted: observations must be in no order.

    Raises:
        PrivacyError: fewer than eight observations of a world, or a NaN or infinite one.
    """
    check_alpha(alpha)
    for name, values in (("without", without), ("with", with_canary)):
        if values.ndim != 1 or len(values) < 2 * _HELD_OUT or not np.isfinite(values).all():
            raise PrivacyError(
                f"step distinguishing needs at least {2 * _HELD_OUT} finite observations {name} "
                f"the canary, got {values.shape} of which {int(np.isfinite(values).sum())} finite"
            )
    cut, cut_in = len(without) // _HELD_OUT, len(with_canary) // _HELD_OUT
    threshold = float(np.median(without[:cut]) + np.median(with_canary[:cut_in])) / 2
    return bound_at(threshold, without[cut:], with_canary[cut_in:], alpha)


def bound_at(threshold: float, without: Floats, with_canary: Floats, alpha: float) -> StepBound:
    """μ_lb at a threshold that these observations had no part in choosing."""
    alarms = upper_bound(int((without > threshold).sum()), len(without), alpha / 2)
    misses = upper_bound(int((with_canary <= threshold).sum()), len(with_canary), alpha / 2)
    return StepBound(threshold, alarms, misses, float(-ndtri(alarms) - ndtri(misses)))


def composed_epsilon_lower_bound(mu: float, sample_rate: float, steps: int, delta: float) -> float:
    """ε at δ of `steps` Poisson-sampled releases at σ_ub = 1/μ_lb, rounded downwards.

    Args:
        mu: μ_lb; nothing is shown at 0 or below.
        sample_rate: verified q.
        steps: T.
        delta: δ.
    """
    return _composed(round(mu, 6), sample_rate, steps, delta) if mu > 1e-3 else 0.0


@lru_cache(maxsize=4096)
def _composed(mu: float, sample_rate: float, steps: int, delta: float) -> float:
    event = SampledGaussianEvent(1 / mu, sample_rate, steps)
    size = epsilon([event], delta, "rdp")
    # Optimistic rounding takes about steps · interval ÷ 2 off ε: a few thousandths of it.
    interval = max(_FINEST, 4e-3 * size / steps)
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        1 / mu,
        sampling_prob=sample_rate,
        pessimistic_estimate=False,
        use_connect_dots=False,
        value_discretization_interval=interval,
    )
    return max(0.0, float(loss.self_compose(steps).get_epsilon_for_delta(delta)))


def distinguish_steps(observed: StepObservations, alpha: float) -> Finding:
    """Refute the claimed σ where the two worlds are further apart than 1/σ.

    Args:
        observed: of the real optimiser.
        alpha: probability of failing a correct build, corrected by the caller.

    Raises:
        PrivacyError: too few or non-finite observations.
    """
    bound = distance_lower_bound(observed.without, observed.with_canary, alpha)
    claimed = 1 / observed.noise_multiplier
    expected = expected_distance(len(observed.without), len(observed.with_canary), claimed, alpha)
    seen = expected > _SEEN * claimed and bound.mu > _SEEN * expected
    failed = bound.mu > claimed
    return Finding(
        check="A4",
        name="step_distinguishing",
        view="one step",
        gate=True,
        verdict="fail" if failed else "pass" if seen else "not_testable",
        reason=(
            f"one step with the canary is at least {bound.mu:.4g} noise deviations away from one "
            f"without it; the claim allows {claimed:.4g}"
            + ("" if failed or seen else ": too little was seen of the canary to say more")
        ),
        statistic={
            "observations": len(observed.without) + len(observed.with_canary),
            "threshold": bound.threshold,
            "fpr_upper_bound": bound.false_alarm_bound,
            "fnr_upper_bound": bound.miss_bound,
            "mu_lower_bound": bound.mu if math.isfinite(bound.mu) else None,
            "mu_claimed": claimed,
            "sigma_upper_bound": 1 / bound.mu if bound.mu > 0 else None,
            "sigma_claimed": observed.noise_multiplier,
        },
        alpha=alpha,
        epsilon_lower_bound=composed_epsilon_lower_bound(
            bound.mu, observed.sample_rate, observed.steps, observed.delta
        ),
        confidence=1 - alpha,
        power=(
            f"a correct build is expected to reach {expected / claimed:.2f}/σ; noise below "
            f"{expected / claimed:.2f} of the claim is caught every other time"
        ),
    )


def expected_distance(without: int, with_canary: int, mu: float, alpha: float) -> float:
    """μ_lb to expect where the true distance is `mu`: the bounds at the expected counts."""
    share = float(ndtr(-mu / 2))
    first, second = (n - n // _HELD_OUT for n in (without, with_canary))
    alarms = upper_bound(round(share * first), first, alpha / 2)
    misses = upper_bound(round(share * second), second, alpha / 2)
    return float(-ndtri(alarms) - ndtri(misses))
