"""A2, noise: what leaves where no unit is sampled is noise alone, and it must be σC everywhere."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import stats

from common.discrete_noise import masked_sum_input
from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.randomness import secure_source
from common.secagg.modular import to_signed
from common.sum_plan import update_plan
from simulations.audit.finding import Finding
from simulations.audit.instrumented.outcome import outcome
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.audit.probes.trainer_replay import noise_alone, replay_of, trainers

Floats = npt.NDArray[np.float64]

MOST_ROUNDS = 40


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """Noise of each trainer, by tensor; in a mode of sums, of the sites' shares."""
    if case.config.is_summed:
        return _shares(case, budget)
    findings = []
    numbers = size(adapter_shapes(case.config))
    rounds = min(max(2, math.ceil(budget.noise_numbers / numbers)), MOST_ROUNDS)
    for name, trainer in trainers(case.config).items():
        replay = replay_of(case, trainer)
        sigma = float(replay.config.privacy.noise_multiplier)
        draws = [
            {tensor: values / sigma for tensor, values in each.items()}
            for each in noise_alone(replay, rounds)
        ]
        findings += _judged(name, draws, set(adapter_shapes(case.config)), budget.alpha)
    return findings


def _judged(
    trainer: str, draws: list[dict[str, Floats]], declared: set[str], alpha: float
) -> list[Finding]:
    """`draws`: noise ÷ σC of each round, by tensor."""
    flat = [np.concatenate([each[n].ravel() for n in sorted(each)]) for each in draws]
    names = sorted(set().union(*draws))
    by_tensor = {n: np.concatenate([each[n].ravel() for each in draws]) for n in names}
    missing = sorted(declared - set(names)) + sorted(set(names) - declared)
    worst, at = 1.0, ""
    for name in names:
        if (chance := variance_p_value(by_tensor[name])) <= worst:
            worst, at = chance, name
    whole = np.concatenate(flat)
    deviation = float(np.sqrt(np.mean(whole**2)))
    pairs = [correlation(a, b) for a, b in pairwise(flat)]
    limit = correlation_limit(len(flat[0]), len(pairs), alpha)
    largest = max(abs(pair) for pair in pairs)
    return [
        outcome(
            "A2",
            f"noise.deviation.{trainer}",
            holds=variance_p_value(whole) >= alpha,
            reason=f"The noise has {deviation:.4f} of its claimed deviation over {len(whole)} "
            "numbers.",
            statistic={"ratio": deviation, "numbers": len(whole)},
            alpha=alpha,
            power=variance_power(len(whole), alpha),
        ),
        outcome(
            "A2",
            f"noise.every_tensor.{trainer}",
            holds=not missing and worst >= alpha / len(names),
            reason=f"The noise of all {len(names)} released tensors was held against σC"
            + (f"; undeclared or missing: {missing}" if missing else "")
            + f"; the least likely is that of {at} (p = {worst:.2g}).",
            statistic={"tensors": len(names), "least_p": worst, "tensor": at},
            alpha=alpha,
        ),
        outcome(
            "A2",
            f"noise.steps.{trainer}",
            holds=largest <= limit,
            reason=f"The noise of two rounds correlates by up to {largest:.4f}; chance explains "
            f"{limit:.4f}.",
            statistic={"correlation": largest, "limit": limit, "pairs": len(pairs)},
            alpha=alpha,
        ),
    ]


def _shares(case: ProbeCase, budget: Budget) -> list[Finding]:
    """The production share of noise on a zero part, from as many sources as there are sites."""
    config = case.config
    plan = update_plan(config, size(adapter_shapes(config)))
    sites = 2 if config.privacy.mode == "central" else min(config.data.sites, 4)
    zeros = np.zeros(plan.coordinates)
    shares = [
        to_signed(masked_sum_input(zeros, plan, secure_source()), plan.modulus_bits).astype(float)
        / plan.share_std
        for _ in range(sites)
    ]
    whole = np.concatenate(shares)
    ratio = float(np.sqrt(np.mean(whole**2)))
    carried = math.sqrt(plan.min_honest) * plan.share_std * plan.grid_step
    owed = plan.noise_multiplier * plan.max_grad_norm
    pairs = [correlation(a, b) for a, b in pairwise(shares)]
    limit = correlation_limit(plan.coordinates, len(pairs), budget.alpha)
    largest = max(abs(pair) for pair in pairs)
    return [
        outcome(
            "A2",
            "noise.deviation.shares",
            holds=variance_p_value(whole) >= budget.alpha and carried >= owed,
            reason=f"A site's share has {ratio:.4f} of its planned deviation, and "
            f"{plan.min_honest} shares carry {carried / owed:.6f} of σC.",
            statistic={"ratio": ratio, "numbers": len(whole), "carried": carried / owed},
            alpha=budget.alpha,
            power=variance_power(len(whole), budget.alpha),
        ),
        outcome(
            "A2",
            "noise.steps.shares",
            holds=largest <= limit,
            reason=f"Two shares correlate by up to {largest:.4f}; chance explains {limit:.4f}.",
            statistic={"correlation": largest, "limit": limit, "pairs": len(pairs)},
            alpha=budget.alpha,
        ),
    ]


def variance_p_value(draws: Floats) -> float:
    """Two-sided χ² p-value of standard normal `draws`; 0 where one is not finite."""
    total = float(np.sum(draws**2))
    if not math.isfinite(total):
        return 0.0
    law = stats.chi2(len(draws))
    return float(min(1.0, 2 * min(law.cdf(total), law.sf(total))))


def variance_power(count: int, alpha: float) -> str:
    """In words: which deviations would have been seen with probability ½ or more."""
    low, high = np.sqrt(stats.chi2(count).ppf([alpha / 2, 1 - alpha / 2]) / count)
    return f"sees a deviation below {low:.3f} or above {high:.3f} of the claimed one"


def correlation(a: Floats, b: Floats) -> float:
    """Of two noise vectors ``[n]`` with mean 0; 1 where one of them is zero."""
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else 1.0


def correlation_limit(count: int, pairs: int, alpha: float) -> float:
    """What |correlation| of independent noise ``[count]`` passes in none of `pairs`, but α."""
    t = float(stats.t(count - 1).isf(alpha / (2 * max(pairs, 1))))
    return t / math.sqrt(count - 1 + t * t)
