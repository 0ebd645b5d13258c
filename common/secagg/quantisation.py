"""From a site's float sum to integers modulo 2^k, planned from public sizes alone.

A site clamps its sum of clipped units, divides by the grid step γ = C/2^b, rounds it
stochastically (floor(x/γ + U), U uniform) and adds its share of discrete noise. The plan
answers three questions:

- *Sensitivity.* Rounding happens once per site, on its sum, and U does not depend on data:
  for each value of U neighbouring sums move by at most ⌈|difference|⌉ per coordinate, so the
  integer sums differ by at most 2^b + √d·(1 + 2s) in L2 norm. s bounds what float64 arithmetic
  (summation of up to N units, scaling, adding U) can do to one coordinate. This holds always;
  it needs neither the conditioning nor the δ of Kairouz, Liu & Steinke 2021 (who round each
  client's vector), and at b = 20 and d = 25,000 it costs 1.6e-4 of the sensitivity.
- *Clamping.* A coordinate of N units' sum lies in ±N·C; clamping to that box is a projection
  onto a convex set and moves no two sums apart, whatever the private number of units is.
- *Head-room.* Discrete Gaussians are sub-Gaussian (Canonne, Kamath & Steinke 2020, Corollary
  17), so is their sum; k is the least with P(any coordinate of any round wraps) ≤ 2^-40. A
  wrap would spoil the sum, never the privacy: reduction modulo 2^k is post-processing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from common.errors import PrivacyError
from common.privacy_events import DistributedGaussianEvent
from common.secagg.accounting import LEAST_SHARE_STD, equivalent_noise_multiplier
from common.secagg.modular import LARGEST_BITS, Integers, Residues, to_signed
from common.secagg.round_spec import RoundSpec

Floats = npt.NDArray[np.float64]

LARGEST_SHARE_STD = 2**28
_LOG2_WRAP = -40
_FINEST_BITS = 30
_FLOAT_BITS = 52


@dataclass(frozen=True)
class QuantisationPlan:
    """Grid, modulus and noise of a run with secure aggregation; all fields are public.

    Attributes:
        sites: n, participants of each round.
        min_honest: m ≤ n − dropouts − colluders; each site adds 1/m of the variance.
        coordinates: d, numbers per vector.
        max_grad_norm: C, the L2 bound of one unit's contribution.
        noise_multiplier: σ of the sum.
        site_units: N, declared upper bound on the units of any site.
        rounds: number of sums over which wrapping must not happen.
        grid_bits: b, with C/γ = 2^b.
    """

    sites: int
    min_honest: int
    coordinates: int
    max_grad_norm: float
    noise_multiplier: float
    site_units: int
    rounds: int
    grid_bits: int = 20

    def __post_init__(self) -> None:
        """Refuse sizes for which no plan exists, each with its remedy."""
        whole = (self.sites, self.min_honest, self.coordinates, self.site_units, self.rounds)
        if min(whole) < 1 or self.min_honest > self.sites:
            raise PrivacyError(
                "sites, min_honest, coordinates, site_units and rounds must be at least 1 and "
                f"min_honest at most sites, got {self}"
            )
        for name in ("max_grad_norm", "noise_multiplier"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PrivacyError(f"{name} must be positive and finite, got {value}")
        if not 1 <= self.grid_bits <= _FINEST_BITS:
            raise PrivacyError(f"grid_bits must be in [1, {_FINEST_BITS}], got {self.grid_bits}")
        if self.modulus_bits > LARGEST_BITS or self.clamp.bit_length() > _FLOAT_BITS - 1:
            raise PrivacyError(
                f"{self.sites} sites of {self.site_units} units at 2^{self.grid_bits} steps per C "
                f"need {self.modulus_bits} bits; lower grid_bits"
            )
        if self.share_std > LARGEST_SHARE_STD:
            raise PrivacyError(
                f"each site's noise would be {self.share_std} grid steps; lower grid_bits"
            )

    @property
    def grid_step(self) -> float:
        """γ, the value of one integer step."""
        return math.ldexp(self.max_grad_norm, -self.grid_bits)

    @property
    def clamp(self) -> int:
        """Largest magnitude of a site's coordinate, before rounding, in grid steps."""
        return self.site_units << self.grid_bits

    @cached_property
    def sensitivity(self) -> float:
        """L2 distance of neighbouring integer sums, in grid steps; see the module."""
        slack = self.clamp * (self.site_units + 4) * 2.0**-53
        bound = 2.0**self.grid_bits + math.sqrt(self.coordinates) * (1 + 2 * slack)
        return bound * (1 + 2.0**-50)

    @cached_property
    def share_std(self) -> int:
        """S, the least with which m shares make up σ; each site's discrete Gaussian."""
        variance = (self.noise_multiplier * self.sensitivity) ** 2 + 9
        share = math.isqrt(math.ceil(variance / self.min_honest))
        share = max(share, LEAST_SHARE_STD)
        while self._noise_of(share) < self.noise_multiplier:
            share += 1
        return share

    @cached_property
    def modulus_bits(self) -> int:
        """k: the modulus is 2^k."""
        log_tails = math.log(2 * self.coordinates * self.rounds) - _LOG2_WRAP * math.log(2)
        noise = self.share_std * math.sqrt(2 * self.sites * log_tails)
        largest = self.sites * (self.clamp + 1) + math.ceil(noise) + 1
        return largest.bit_length() + 1

    def _noise_of(self, share_std: int) -> float:
        return equivalent_noise_multiplier(share_std, self.min_honest, self.sensitivity)

    def event(self, sample_rate: float, steps: int = 1) -> DistributedGaussianEvent:
        """What `steps` sums cost the units, each taking part with `sample_rate`."""
        return DistributedGaussianEvent(
            share_std=self.share_std,
            min_honest=self.min_honest,
            sensitivity=self.sensitivity,
            coordinates=self.coordinates,
            sample_rate=sample_rate,
            steps=steps,
        )

    def check_round(self, spec: RoundSpec) -> None:
        """Refuse a round in which fewer than m honest sites may be left, or others than planned.

        Raises:
            PrivacyError: the round does not fit the plan.
        """
        honest = spec.min_survivors - spec.max_colluders
        if honest < self.min_honest:
            raise PrivacyError(
                f"only {honest} honest sites are certain to be in the sum, the noise is shared "
                f"among min_honest={self.min_honest}; lower min_honest or max_dropouts"
            )
        ours = (self.coordinates, self.modulus_bits)
        if len(spec.participants) > self.sites or (spec.length, spec.modulus_bits) != ours:
            raise PrivacyError(
                f"the round ({len(spec.participants)} sites, {spec.length} numbers, "
                f"{spec.modulus_bits} bits) is not the planned one ({self.sites}, {ours})"
            )

    def describe(self) -> str:
        """The plan in words, for logs and reports."""
        return (
            f"secure aggregation of {self.sites} sites: grid C/2^{self.grid_bits} = "
            f"{self.grid_step:.3g}, modulus 2^{self.modulus_bits} (P(wrap) <= 2^{_LOG2_WRAP} over "
            f"{self.rounds} rounds), integer sensitivity {self.sensitivity:.8g}, each site's "
            f"noise {self.share_std} grid steps, shared among {self.min_honest} honest sites"
        )


def quantise(values: Floats, uniform: Floats, plan: QuantisationPlan) -> Integers:
    """Clamp, scale and round a site's sum stochastically; no noise yet.

    Args:
        values: float64 [d], the sum of the site's clipped units.
        uniform: float64 [d], uniform on [0, 1), fresh and secret.
        plan: the run's plan.

    Returns:
        int64 [d] in ±(clamp + 1), unbiased inside the clamp.

    Raises:
        PrivacyError: the wrong number of values, or a value that is not finite.
    """
    if values.shape != (plan.coordinates,) or uniform.shape != values.shape:
        raise PrivacyError(f"expected {plan.coordinates} values, got shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise PrivacyError("the sum to be released holds a value that is not finite")
    scaled = np.ldexp(values / plan.max_grad_norm, plan.grid_bits)
    clamped = np.clip(scaled, -plan.clamp, plan.clamp)
    return np.floor(clamped + uniform).astype(np.int64)


def dequantise(total: Residues, plan: QuantisationPlan) -> Floats:
    """The noised sum as floats [d], from the sum modulo 2^k."""
    return to_signed(total, plan.modulus_bits).astype(np.float64) * plan.grid_step
