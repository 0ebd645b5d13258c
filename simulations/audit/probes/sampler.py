"""Who takes part in a step, by the functions that a run samples with."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from client.local_steps import poisson_steps
from client.sampling import poisson_sample
from common.config import RunConfig
from common.privacy_units import Unit
from common.randomness import RandomSource
from simulations.audit.probes.case import changed

Booleans = npt.NDArray[np.bool_]


def sampled(sample_rate: float, *, units: int, steps: int, source: RandomSource) -> Booleans:
    """``[steps, units]``: who is in, by `client.sampling.poisson_sample` alone."""
    taken = np.zeros((steps, units), dtype=np.bool_)
    for step in taken:
        step[poisson_sample(units, sample_rate, source)] = True
    return taken


def sampled_in_rounds(
    config: RunConfig, *, units: int, steps: int, source: RandomSource
) -> Booleans:
    """As `sampled`, by the stream of contributions that the run's steps consume."""
    cheap = changed(config, privacy={"targets_per_unit": 1, "negatives_per_unit": 1})
    one = np.zeros(1, dtype=np.int64)
    named = [Unit(str(place), one, one.astype(np.float32), one) for place in range(units)]
    stream = poisson_steps(cast(Any, _NoModel()), named, cheap, source)
    taken = np.zeros((steps, units), dtype=np.bool_)
    for step in taken:
        step[[int(each.unit.user_id) for each in next(stream)]] = True
    return taken


class _NoModel:
    """All that the stream of contributions asks of a recommender: how many items there are."""

    item_prior = np.zeros(4)
    trains_lora = False
