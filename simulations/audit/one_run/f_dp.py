"""The one-run bound for a whole trade-off curve (Mahloujifar, Melis & Chaudhuri 2024).

arXiv 2410.22235, Algorithm 3: bounds how likely v of r right guesses are, step by step from
the claim's curve f, and refutes the claim where even that is too unlikely. On the curve that a
run claims it is a test of that claim. An ε comes only out of a *family* of curves: with
Gaussian curves it is model-conditional, right if the mechanism is about Gaussian, and no bound
for others.
"""

from __future__ import annotations

from scipy.optimize import brentq

from common.gaussian_accounting import gaussian_epsilon
from simulations.audit.binomial_bounds import check_alpha
from simulations.audit.one_run.guesses import Guesses
from simulations.audit.one_run.trade_off import GaussianTradeOff, TradeOff

_CLOSE = 1e-9
_LEAST_P_VALUE = 1e-12


def refutation(guesses: Guesses, curve: TradeOff, alpha: float) -> float:
    """How far the outcome is from being possible under `curve`; refuted where positive.

    Args:
        guesses: the outcome.
        curve: what is claimed.
        alpha: τ, allowed probability of refuting a true claim.

    Returns:
        R + H − r/m of Algorithm 3; at most 0 where the claim stands.
    """
    check_alpha(alpha)
    return _excess(guesses, curve, alpha)


def _excess(guesses: Guesses, curve: TradeOff, tail: float) -> float:
    made, right = guesses.made, guesses.right
    hits = tail * right / guesses.canaries
    misses = tail * (made - right) / guesses.canaries
    for i in range(right - 1, -1, -1):
        grown = max(misses, curve.blow_up_inverse(hits))
        if grown == misses:
            break  # nothing changes from here on
        hits = min(1.0, hits + i / (made - i) * (grown - misses))
        misses = grown
    return hits + misses - made / guesses.canaries


def p_value(guesses: Guesses, curve: TradeOff) -> float:
    """The least α at which the claim is refuted, by bisection; at least 1e-12, at most 1."""
    if _excess(guesses, curve, 1.0) <= 0:
        return 1.0
    low, high = _LEAST_P_VALUE, 1.0
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _excess(guesses, curve, middle) > 0 else (middle, high)
    return high


def gaussian_epsilon_lower_bound(guesses: Guesses, delta: float, alpha: float) -> float:
    """The model-conditional ε at δ: of the strongest Gaussian curve that is refuted.

    Raises:
        PrivacyError: α or δ outside (0, 1).
    """
    check_alpha(alpha)
    gaussian_epsilon(1.0, delta)  # refuses a δ that is none

    def excess(mu: float) -> float:
        return _excess(guesses, GaussianTradeOff(mu), alpha)

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
    mu = float(brentq(excess, low, high, xtol=_CLOSE))
    return gaussian_epsilon(1 / mu, delta) if mu > 0 else 0.0
