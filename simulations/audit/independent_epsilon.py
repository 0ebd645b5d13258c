"""ε of a release log by `dp_accounting` alone: no line of this project's own accounting.

A *charge* is (σ, q, steps): `steps` Gaussian releases with noise multiplier σ, each over a
Poisson sample of the units at rate q; q = 1 means that every unit took part.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import dp_accounting
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.stats import binom

from common.release_record import ReleaseRecord

Charge: TypeAlias = tuple[float, float, int]
Charges: TypeAlias = tuple[Charge, ...]
Relation = Literal["add_or_remove_one", "replace_one"]

_RELATIONS = {
    "add_or_remove_one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace_one": dp_accounting.NeighboringRelation.REPLACE_ONE,
}
_INTERVAL = 1e-4
_SOURCE = 10**6  # any size gives the same: sampling without replacement is accounted by n ÷ N


def charges_of(releases: Sequence[ReleaseRecord]) -> Charges:
    """The merged charges of noised releases, from the numbers that each record states."""
    found = Counter[tuple[float, float]]()
    for record in releases:
        rate = 1.0 if record.mechanism == "gaussian" else record.sample_rate
        found[record.noise_multiplier, rate] += record.steps
    return tuple((sigma, rate, steps) for (sigma, rate), steps in sorted(found.items()))


def is_sampled(charges: Charges) -> bool:
    """Whether any step is over a sample."""
    return any(rate < 1 for _, rate, _ in charges)


def without_amplification(charges: Charges) -> Charges:
    """The same releases with every unit in each."""
    return tuple((sigma, 1.0, steps) for sigma, _, steps in charges)


def pld_epsilon(charges: Charges, delta: float, relation: Relation = "add_or_remove_one") -> float:
    """ε(δ) by privacy loss distributions, rounded pessimistically.

    Args:
        charges: of one site.
        delta: δ in (0, 1).
        relation: of neighbouring data sets; a replacement moves the sum by up to 2C.

    Returns:
        ε; 0 without charges.
    """
    if not charges:
        return 0.0
    if all(rate >= 1 for _, rate, _ in charges):
        moved = 2.0 if relation == "replace_one" else 1.0
        sigma = _one_gaussian(charges) / moved
        return float(dp_accounting.get_epsilon_gaussian(sigma, delta))
    return float(_composed(charges, relation).get_epsilon(delta))


def pld_delta(charges: Charges, epsilon: float) -> float:
    """δ(ε) by privacy loss distributions, add or remove one; 0 without charges."""
    if not charges:
        return 0.0
    if all(rate >= 1 for _, rate, _ in charges):
        mu = 1 / _one_gaussian(charges)
        inner = dp_accounting.GaussianDpEvent(1 / mu)
        accountant = PLDAccountant(value_discretization_interval=_interval(charges))
        accountant.compose(inner)
        return float(accountant.get_delta(epsilon))
    return float(_composed(charges, "add_or_remove_one").get_delta(epsilon))


def rdp_epsilon(charges: Charges, delta: float) -> float:
    """ε(δ) by Rényi accounting, add or remove one; never below the truth."""
    accountant = RdpAccountant()
    for sigma, rate, steps in charges:
        accountant.compose(_event(sigma, rate), steps)
    return float(accountant.get_epsilon(delta)) if charges else 0.0


def without_replacement_epsilon(charges: Charges, delta: float) -> float:
    """ε(δ) had each step drawn a fixed number of units without replacement (replace one, RDP).

    σ is relative to what one replacement changes, as `dp_accounting` reads it.
    """
    if not charges:
        return 0.0
    accountant = RdpAccountant(neighboring_relation=_RELATIONS["replace_one"])
    for sigma, rate, steps in charges:
        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1:
            drawn = max(1, round(rate * _SOURCE))
            event = dp_accounting.SampledWithoutReplacementDpEvent(_SOURCE, drawn, event)
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))


def several_records_epsilon(charges: Charges, delta: float, records: int) -> float:
    """ε(δ) of a person with `records` units, sampled one by one; a mixture of Gaussians.

    Args:
        charges: of one site, the unit being a record.
        delta: δ of the person's guarantee.
        records: k, number of the person's units.
    """
    if not charges:
        return 0.0
    if all(rate >= 1 for _, rate, _ in charges):
        sigma = _one_gaussian(charges) / records
        return float(dp_accounting.get_epsilon_gaussian(sigma, delta))
    # A mixture is inverted point by point: ten times coarser, still pessimistic.
    interval = 10 * _interval(charges) * records
    accountant = PLDAccountant(value_discretization_interval=interval)
    for sigma, rate, steps in charges:
        if rate >= 1:
            accountant.compose(dp_accounting.GaussianDpEvent(sigma / records), steps)
            continue
        moved = range(records + 1)
        probabilities = [float(binom.pmf(m, records, rate)) for m in moved]
        accountant.compose(
            dp_event.MixtureOfGaussiansDpEvent(sigma, [float(m) for m in moved], probabilities),
            steps,
        )
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=64)
def _composed(charges: Charges, relation: Relation) -> PLDAccountant:
    accountant = PLDAccountant(_RELATIONS[relation], _interval(charges))
    plain = tuple(charge for charge in charges if charge[1] >= 1)
    if plain:  # composed Gaussians are one Gaussian
        accountant.compose(dp_accounting.GaussianDpEvent(_one_gaussian(plain)))
    for sigma, rate, steps in charges:
        if rate < 1:
            accountant.compose(_event(sigma, rate), steps)
    return accountant


def _one_gaussian(charges: Charges) -> float:
    return 1 / math.sqrt(math.fsum(steps / sigma**2 for sigma, _, steps in charges))


def _event(sigma: float, rate: float) -> dp_accounting.DpEvent:
    event = dp_accounting.GaussianDpEvent(sigma)
    return dp_accounting.PoissonSampledDpEvent(rate, event) if rate < 1 else event


@lru_cache(maxsize=256)
def _interval(charges: Charges) -> float:
    """Time and memory grow with ε ÷ interval: a coarser, still pessimistic, grid far out."""
    return _INTERVAL * max(1.0, rdp_epsilon(charges, 1e-5) / 10)
