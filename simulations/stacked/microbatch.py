"""How many units go through the model at once."""

from __future__ import annotations

from common.config import RunConfig
from common.recommender import Recommender

CACHE_UNITS = 32


def microbatch_units(config: RunConfig, recommender: Recommender) -> int:
    """Units per microbatch."""
    return CACHE_UNITS
