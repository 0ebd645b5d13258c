"""What a site's whole history of releases costs: ε at a given δ, by three accountants.

- ``prv`` (what is recorded and enforced): the *upper bound* of Opacus' PRV accountant
  (Gopi, Lee & Wutschitz 2021), at most 0.01 above the true ε and never below it. A history
  without sampling is one Gaussian and gets its exact ε. Where PRV is numerically out of
  reach (ε beyond about a hundred, δ below steps·1e-13), the least of the two analytic
  upper bounds stands in: RDP, and the same history without amplification by sampling.
- ``rdp``: Opacus' Rényi accountant (Mironov, Talwar & Zhang 2019; conversion by Balle et
  al. 2020, Theorem 21), printed beside it: never below the truth, looser.
- ``pld``: ``dp_accounting``'s privacy loss distributions, with pessimistic rounding: the
  independent check. A recorded ε is not below it, but for that rounding (below 1e-3, seen
  only where ε is about a hundredth).

Distributed discrete noise is accounted as the Gaussian that bounds it, plus the terms of the
theorem in `common.secagg.accounting`. Every ε is for the unit that was clipped and noised,
under add/remove of one unit, and for sampled events it assumes that each step's Poisson
sample is secret.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import dp_accounting
import numpy as np
from dp_accounting.pld import PLDAccountant
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.prv import Domain
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from common.errors import PrivacyError
from common.gaussian_accounting import composed_noise_multiplier, gaussian_epsilon
from common.privacy_events import (
    GaussianEvent,
    MergedHistory,
    PrivacyEvent,
    SampledGaussianEvent,
    history_log_ratio,
    merge_events,
)

Accountant: TypeAlias = Literal["prv", "rdp", "pld"]

# (noise_multiplier, sample_rate, steps), the form of Opacus' histories
_Mechanism: TypeAlias = tuple[float, float, int]

# An exact ε is rounded up by this factor: PLD's pessimistic rounding lies up to 1e-8 above
# the closed form, and a recorded ε must not be below it.
_ROUND_UP = 1 + 1e-6
_PRV_ERROR_RANGE = (1e-3, 1e-2)
_PRV_LARGEST_MESH = 2**22
# A Fourier transform in float64, raised to the power of the steps, is off by about steps·6e-17
# (measured against direct convolution); at a δ below a thousand times that, PRV's upper bound
# would come out too low.
_PRV_LEAST_DELTA_PER_STEP = 1e-13
_LEAST_SIGMA = 1e-6
_WHOLE_ORDERS = (*range(2, 64), 64, 80, 96, 128, 192, 256, 384, 512, 768, 1000)
_SMALL_ORDERS = (1.01, 1.02, 1.05)
_REFINED_UP_TO = 11


def epsilon(history: Sequence[PrivacyEvent], delta: float, accountant: Accountant = "prv") -> float:
    """The (ε, δ) cost of all of `history` together; remembered per distinct history.

    Args:
        history: every release of the site's life that touched the same units.
        delta: δ in (0, 1).
        accountant: which accountant answers; see the module's docstring.

    Returns:
        ε ≥ 0, never below the true ε; 0 for an empty history; inf where there
        is hardly any noise (σ < 1e-6).

    Raises:
        PrivacyError: δ outside (0, 1), or an unknown accountant.
        UnknownEventError: the history holds an event that no theorem covers.
    """
    if not 0 < delta < 1:
        raise PrivacyError(f"delta must be in (0, 1), got {delta}; choose δ < 1/(number of units)")
    if accountant not in ("prv", "rdp", "pld"):
        raise PrivacyError(f"accountant must be prv, rdp or pld, got {accountant!r}")
    ratio = history_log_ratio(history)
    if ratio == 0:
        return _epsilon_of(merge_events(history), delta, accountant)
    # The theorem of `common.secagg.accounting`; 1 − 2^-49 covers e^-ratio, ratio ≤ 2^-50 each.
    lowered = delta * (1 - max(2.0**-49, 2 * ratio))
    value = _epsilon_of(merge_events(history), lowered, accountant)
    return math.nextafter(value + 2 * ratio, math.inf)


@lru_cache(maxsize=65_536)
def _epsilon_of(history: MergedHistory, delta: float, accountant: Accountant) -> float:
    if not history:
        return 0.0
    mechanisms = _mechanisms(history)
    if min(sigma for sigma, _, _ in mechanisms) < _LEAST_SIGMA:
        return math.inf  # ε beyond 10^11: no claim, and no float to compute it in
    if accountant == "rdp":
        return _rdp_epsilon(mechanisms, delta)
    if accountant == "pld":
        return _pld_epsilon(mechanisms, delta)
    return _prv_epsilon(mechanisms, delta)


def _mechanisms(history: MergedHistory) -> tuple[_Mechanism, ...]:
    """The history with all its plain Gaussians composed, exactly, into one."""
    plain = [event for event in history if isinstance(event, GaussianEvent)]
    sampled = [
        (event.noise_multiplier, event.sample_rate, event.steps)
        for event in history
        if isinstance(event, SampledGaussianEvent)
    ]
    return ((composed_noise_multiplier(plain), 1.0, 1), *sampled) if plain else tuple(sampled)


def _unamplified_epsilon(mechanisms: Sequence[_Mechanism], delta: float) -> float:
    """Exact ε if every unit took part in every step: sampling only lowers it."""
    events = [GaussianEvent(sigma, steps) for sigma, _, steps in mechanisms]
    return gaussian_epsilon(composed_noise_multiplier(events), delta) * _ROUND_UP


def _prv_epsilon(mechanisms: tuple[_Mechanism, ...], delta: float) -> float:
    unamplified = _unamplified_epsilon(mechanisms, delta)
    if all(rate == 1 for _, rate, _ in mechanisms):
        return unamplified
    rdp = _rdp_epsilon(mechanisms, delta)
    smallest, largest = _PRV_ERROR_RANGE
    error = min(max(rdp / 100, smallest), largest)
    return min(unamplified, rdp, _prv_upper_bound(mechanisms, delta, error))


def _prv_upper_bound(mechanisms: Sequence[_Mechanism], delta: float, error: float) -> float:
    """Opacus' upper bound on ε, or inf where its numbers do not carry."""
    if delta < _PRV_LEAST_DELTA_PER_STEP * sum(steps for _, _, steps in mechanisms):
        return math.inf
    accountant = _PRVAccountant()
    accountant.history = list(mechanisms)
    if not accountant.fits(error, delta / 1000):
        return math.inf
    try:
        # log(1 − q) is −inf at q = 1 and exp(t) is inf far out in the tail: both are the
        # limits that Opacus' formulas need. An invalid operation (inf·0) is not.
        with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="raise"):
            bound = float(accountant.get_epsilon(delta, eps_error=error))
    except (FloatingPointError, RuntimeError, ValueError):
        # Opacus' three ways to say that its mesh cannot resolve this history.
        return math.inf
    return max(bound, 0.0) if math.isfinite(bound) else math.inf


class _PRVAccountant(PRVAccountant):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' PRV accountant, its mesh laid out with the remembered Rényi divergences.

    Opacus finds the half-width of its mesh by RDP over few orders, afresh each time, and
    warns where the best order is the last; more orders give a valid width without either.
    """

    def fits(self, eps_error: float, delta_error: float) -> bool:
        """Whether the mesh stays small enough to be computed in seconds."""
        half_width, spacing = self._mesh(eps_error, delta_error)
        return 2 * half_width / spacing <= _PRV_LARGEST_MESH

    def _mesh(self, eps_error: float, delta_error: float) -> tuple[float, float]:
        steps = sum(steps for _, _, steps in self.history)
        widths = [
            _rdp_epsilon(tuple(self.history), delta_error / 4),
            *(
                _rdp_epsilon(((sigma, rate, 1),), delta_error / (8 * steps))
                for sigma, rate, _ in self.history
            ),
        ]
        spacing = eps_error / math.sqrt(steps * math.log(12 / delta_error) / 2)
        return max(*widths, eps_error) + 3, spacing  # Remark 5.6 of Gopi et al., as Opacus

    def _get_domain(
        self, prvs: Any, num_self_compositions: Any, eps_error: float, delta_error: float
    ) -> Domain:
        half_width, spacing = self._mesh(eps_error, delta_error)
        return Domain.create_aligned(-half_width, half_width, spacing)


def _rdp_epsilon(mechanisms: tuple[_Mechanism, ...], delta: float) -> float:
    """RDP's ε over whole orders first, then over tenths around the best."""
    value, order = _rdp_spent(mechanisms, delta, _WHOLE_ORDERS)
    if math.isfinite(value) and order <= _REFINED_UP_TO:
        tenths = [order + k / 10 for k in range(-9, 10) if k and order + k / 10 > 1.05]
        refined, _ = _rdp_spent(mechanisms, delta, (*_SMALL_ORDERS, *tenths))
        value = min(value, refined)
    return max(value, 0.0)


def _rdp_spent(
    mechanisms: tuple[_Mechanism, ...], delta: float, orders: Sequence[float]
) -> tuple[float, float]:
    rdp = [
        math.fsum(steps * _rdp_of_one(sigma, rate, order) for sigma, rate, steps in mechanisms)
        for order in orders
    ]
    if not any(math.isfinite(value) for value in rdp):
        return math.inf, orders[0]
    # Opacus warns where the first or the last order is best, although the bound holds at
    # every order; two orders of infinite divergence keep the best one off both ends.
    spent, order = get_privacy_spent(
        orders=[1.001, *orders, 1e6], rdp=[math.inf, *rdp, math.inf], delta=delta
    )
    return float(spent), float(order)


@lru_cache(maxsize=262_144)
def _rdp_of_one(noise_multiplier: float, sample_rate: float, order: float) -> float:
    value = compute_rdp(
        q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=float(order)
    )
    return float(value) if not math.isnan(value) else math.inf


def _pld_epsilon(mechanisms: tuple[_Mechanism, ...], delta: float) -> float:
    # Time and memory grow with ε ÷ interval: a coarser, still pessimistic, grid far out.
    coarseness = max(1.0, _rdp_epsilon(mechanisms, delta) / 10)
    if not math.isfinite(coarseness):
        return math.inf
    accountant = PLDAccountant(value_discretization_interval=1e-4 * coarseness)
    for sigma, rate, steps in mechanisms:
        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(rate, event)
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))
