"""What a run will spend: its events, and the noise multiplier that keeps them in budget."""

from __future__ import annotations

import math
from functools import lru_cache

from common.calibration import calibrate_noise_multiplier
from common.config import AUTO, RunConfig
from common.metrics_plan import all_metrics_event
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent

# Discrete noise on a sum costs a Gaussian's ε and a term below 1e-14: this leaves room for it.
_ROOM = 1 - 1e-9


def popularity_event(config: RunConfig) -> GaussianEvent | None:
    """The one popularity release of a private run, or None where there is none."""
    if not (config.is_private and config.model.popularity_prior):
        return None
    return GaussianEvent(noise_multiplier=config.privacy.popularity_noise_multiplier)


def cooccurrence_event(config: RunConfig) -> GaussianEvent | None:
    """The one co-occurrence release of a private run, or None where there is none."""
    if not (config.is_private and config.model.item_to_item):
        return None
    return GaussianEvent(noise_multiplier=config.privacy.cooccurrence_noise_multiplier)


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
        CalibrationError: The releases beside training alone pass the budget.
    """
    if config.privacy.noise_multiplier != AUTO:
        return float(config.privacy.noise_multiplier)
    return _calibrated(config)


def beside_training(config: RunConfig) -> tuple[PrivacyEvent, ...]:
    """All that a site releases in the run but its updates: statistics and private metrics."""
    events = (popularity_event(config), cooccurrence_event(config), all_metrics_event(config))
    return tuple(event for event in events if event is not None)


@lru_cache(maxsize=64)
def _calibrated(config: RunConfig) -> float:
    privacy, federation = config.privacy, config.federation
    return calibrate_noise_multiplier(
        target_epsilon=privacy.target_epsilon * _ROOM,
        target_delta=privacy.target_delta,
        sample_rate=privacy.sample_rate,
        steps=federation.rounds * steps_per_round(config),
        before=beside_training(config),
    )


def popularity_deviation(config: RunConfig, sites: int) -> float:
    """Standard deviation of the noise in the sum over `sites` sites' popularity."""
    return _deviation(popularity_event(config), config, sites)


def cooccurrence_deviation(config: RunConfig, sites: int) -> float:
    """Standard deviation of the noise in each cell of the sum over `sites` sites."""
    return _deviation(cooccurrence_event(config), config, sites)


def _deviation(event: GaussianEvent | None, config: RunConfig, sites: int) -> float:
    """Of the noise in a sum of norm-1 units over `sites` sites; 0 without noise."""
    if event is None:
        return 0.0
    shares = sites / config.min_honest if config.privacy.mode == "distributed" else sites
    return event.noise_multiplier * math.sqrt(1 if config.privacy.mode == "central" else shares)
