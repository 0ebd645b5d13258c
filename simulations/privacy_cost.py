"""What a mechanism costs, or what a target affords: the numbers behind `fedrec privacy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from common.accounting import Accountant, epsilon
from common.affordable import calibrate_sample_rate, calibrate_steps
from common.calibration import calibrate_noise_multiplier
from common.errors import PrivacyError
from common.privacy_events import SampledGaussianEvent
from common.privacy_profile import DELTAS, ProfilePoint, privacy_profile
from common.recorded_epsilon import ACCOUNTANTS, RELATION, finite

UNIT = "user"

Calibrated = Literal["sigma", "rate", "steps"]


@dataclass(frozen=True)
class Asked:
    """What a person gave; what is None is to be found.

    Attributes:
        sigma: σ, noise standard deviation ÷ L2 sensitivity.
        rate: q, Poisson sampling of units.
        steps: number of noised steps.
        delta: δ.
        target_epsilon: ε to be met, or None to be told it.
    """

    sigma: float | None
    rate: float | None
    steps: int | None
    delta: float
    target_epsilon: float | None


@dataclass(frozen=True)
class PrivacyCost:
    """A whole mechanism and what it costs at `delta`.

    Attributes:
        event: σ, q and steps.
        delta: δ.
        spent: ε by each accountant.
        profile: ε(δ) by PRV.
        calibrated: which of the three numbers was found, if one was.
        target_epsilon: the ε that it was found for.
    """

    event: SampledGaussianEvent
    delta: float
    spent: dict[Accountant, float]
    profile: tuple[ProfilePoint, ...]
    calibrated: Calibrated | None
    target_epsilon: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; every ε stands beside its unit, relation, δ, sampling, accountant."""
        return {
            "schema_version": 1,
            "unit": UNIT,
            "neighbouring_relation": RELATION,
            "sampling": "poisson" if self.event.sample_rate < 1 else "full",
            "noise_multiplier": self.event.noise_multiplier,
            "sample_rate": self.event.sample_rate,
            "steps": self.event.steps,
            "calibrated": self.calibrated,
            "target_epsilon": self.target_epsilon,
            "delta": self.delta,
            "epsilon": {name: finite(value) for name, value in self.spent.items()},
            "profile": {
                "accountant": "prv",
                "points": [{"delta": p.delta, "epsilon": finite(p.epsilon)} for p in self.profile],
            },
        }


def privacy_cost(asked: Asked) -> PrivacyCost:
    """Complete what was asked, and account for it.

    Raises:
        PrivacyError: too little or too much was given, or a value is out of range.
        CalibrationError: nothing meets the target.
    """
    event, calibrated = _completed(asked)
    return PrivacyCost(
        event=event,
        delta=asked.delta,
        spent={name: epsilon([event], asked.delta, name) for name in ACCOUNTANTS},
        profile=privacy_profile([event], sorted({*DELTAS, asked.delta})),
        calibrated=calibrated,
        target_epsilon=asked.target_epsilon,
    )


def _completed(asked: Asked) -> tuple[SampledGaussianEvent, Calibrated | None]:
    sigma, rate, steps, target = asked.sigma, asked.rate, asked.steps, asked.target_epsilon
    if target is None:
        if sigma is None or rate is None or steps is None:
            raise _unclear(asked)
        return SampledGaussianEvent(sigma, rate, steps), None
    delta = asked.delta
    if sigma is None and rate is not None and steps is not None:
        sigma = calibrate_noise_multiplier(
            target_epsilon=target, target_delta=delta, sample_rate=rate, steps=steps
        )
        return SampledGaussianEvent(sigma, rate, steps), "sigma"
    if rate is None and sigma is not None and steps is not None:
        rate = calibrate_sample_rate(
            target_epsilon=target, target_delta=delta, noise_multiplier=sigma, steps=steps
        )
        return SampledGaussianEvent(sigma, rate, steps), "rate"
    if steps is None and sigma is not None and rate is not None:
        steps = calibrate_steps(
            target_epsilon=target, target_delta=delta, noise_multiplier=sigma, sample_rate=rate
        )
        return SampledGaussianEvent(sigma, rate, steps), "steps"
    raise _unclear(asked)


def _unclear(asked: Asked) -> PrivacyError:
    given = [name for name in ("sigma", "rate", "steps") if getattr(asked, name) is not None]
    wanted = "all of them" if asked.target_epsilon is None else "all but the one to be found"
    return PrivacyError(
        f"of --sigma, --rate and --steps, {', '.join(given) or 'none'} was given; give {wanted}, "
        "or --target-epsilon with two of them, or --releases FILE alone"
    )
