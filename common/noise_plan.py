"""What a run will spend: its events, and the noise multiplier that keeps them in budget."""

from __future__ import annotations

import math
from functools import lru_cache

from common.calibration import calibrate_noise_multiplier
from common.config import AUTO, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent


def popularity_event(config: RunConfig) -> GaussianEvent | None:
    """The one popularity release of a private run, or None where there is none."""
    if not (config.is_private and config.model.popularity_prior):
        return None
    return GaussianEvent(noise_multiplier=config.privacy.popularity_noise_multiplier)


def round_event(config: RunConfig) -> SampledGaussianEvent | None:
    """What one round of training costs a site; None in mode `none`."""
    if not config.is_private:
        return None
    return SampledGaussianEvent(
        noise_multiplier=noise_multiplier(config),
        sample_rate=config.privacy.sample_rate,
        steps=steps_per_round(config),
    )


def steps_per_round(config: RunConfig) -> int:
    """Mechanism steps of one round: each is one noised sum, and costs one event.

    Where the unit's whole update is clipped, all local steps together are one.
    """
    return 1 if config.privacy.clipping == "update" else config.federation.local_steps


def noise_multiplier(config: RunConfig) -> float:
    """σ of every step: as configured, or calibrated so that the *whole* run fits (ε, δ).

    Raises:
        CalibrationError: The popularity release alone passes the budget.
    """
    if config.privacy.noise_multiplier != AUTO:
        return float(config.privacy.noise_multiplier)
    return _calibrated(config.privacy, config.federation, config.model)


@lru_cache(maxsize=64)
def _calibrated(privacy: PrivacyConfig, federation: FederationConfig, model: ModelConfig) -> float:
    config = RunConfig(privacy=privacy, federation=federation, model=model)
    popularity = popularity_event(config)
    before: tuple[PrivacyEvent, ...] = () if popularity is None else (popularity,)
    return calibrate_noise_multiplier(
        target_epsilon=privacy.target_epsilon,
        target_delta=privacy.target_delta,
        sample_rate=privacy.sample_rate,
        steps=federation.rounds * steps_per_round(config),
        before=before,
    )


def popularity_deviation(config: RunConfig, sites: int) -> float:
    """Standard deviation of the noise in the sum of `sites` popularity releases."""
    event = popularity_event(config)
    return 0.0 if event is None else event.noise_multiplier * math.sqrt(sites)
