"""The one-run bound of Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846, Theorem 5.2).

For an (ε, δ)-private run over m canaries, each included with probability ½, the number of
right guesses among r is hardly larger than Binomial(r, e^ε ÷ (1 + e^ε)). No assumption on the
mechanism beyond the claim; loose where the claim's whole curve says more (see `f_dp`).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import check_alpha
from simulations.audit.one_run.guesses import Guesses

_CLOSE = 1e-9


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Probability of at least as many right guesses if the run were (ε, δ)-private.

    β = P[Bin(r, q_ε) ≥ v], p = min(1, β + 2mδα*), α* = max over i of P[v > Bin ≥ v−i] ÷ i.

    Args:
        guesses: the outcome.
        epsilon: ε ≥ 0 of the claim, for adding or removing one canary.
        delta: δ in [0, 1] of the claim.

    Raises:
        PrivacyError: ε or δ is none.
    """
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise PrivacyError(
            f"a claim needs epsilon >= 0 and delta in [0, 1], got {epsilon} and {delta}"
        )
    rate = expit(epsilon)
    beta = float(binom.sf(guesses.right - 1, guesses.made, rate))
    if delta == 0 or guesses.right == 0:
        return min(1.0, beta)
    lengths = np.arange(1, guesses.right + 1)
    below = np.cumsum(binom.pmf(guesses.right - lengths, guesses.made, rate))
    worst = float((below / lengths).max())
    return min(1.0, beta + 2 * guesses.canaries * delta * worst)


def epsilon_lower_bound(guesses: Guesses, delta: float, alpha: float) -> float:
    """ε that the run exceeds with confidence 1 − α, at this δ; 0 where nothing is refuted.

    The root is bracketed from 0 upwards, so that every smaller ε is refuted as well.
    """
    check_alpha(alpha)

    def excess(epsilon: float) -> float:
        return p_value(guesses, epsilon, delta) - alpha

    if excess(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) < 0:
        low, high = high, 2 * high
    return float(brentq(excess, low, high, xtol=_CLOSE))


def power_ceiling(canaries: int, made: int, delta: float, alpha: float) -> float:
    """The largest ε these guesses could show, all of them right: about ln(r/3) at α = 5%."""
    return epsilon_lower_bound(Guesses(canaries, made, made), delta, alpha)
