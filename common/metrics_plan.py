"""Which metrics a run asks its sites for, how often, and what each answer costs them.

Exact sums are for the lab of a simulation. Private ones are releases: a site sums over its
users the vector (1, HR@10, HR@20, NDCG@10, NDCG@20, MRR), each entry in [0, 1], so that one
unit moves the sum by at most √6 in L2, and adds Gaussian noise of standard deviation σ·√6 to
every coordinate: one `GaussianEvent(σ)`, whichever mode trains the adapter. Validation and
test are of the same units, so that each answer is one more such event. (Where the unit is an
example, it moves the vector of its one user, by no more than that.)

Group statistics are never asked for: they exist in the lab alone.
"""

from __future__ import annotations

import math

from common.config import RunConfig
from common.message_types import Stage
from common.metrics import METRIC_NAMES
from common.privacy_events import GaussianEvent

METRIC_COORDINATES: tuple[str, ...] = ("users", *METRIC_NAMES)
"""What the entries of a private sum count, in this order."""

METRICS_SENSITIVITY = math.sqrt(len(METRIC_COORDINATES))
"""L2 bound of one unit's vector: C of the release's record."""


def stages_due(server_round: int, config: RunConfig) -> tuple[Stage, ...]:
    """Validation each `evaluation.every` rounds and after the last; test once, at the end."""
    if config.evaluation.metrics == "none":
        return ()
    every, last = config.evaluation.every, server_round == config.federation.rounds
    if last:
        return ("validation", "test")
    return ("validation",) if every and server_round % every == 0 else ()


def metrics_event(config: RunConfig) -> GaussianEvent | None:
    """What one answer costs a site; None where the run has no private metrics."""
    if not (config.is_private and config.evaluation.metrics == "private"):
        return None
    return GaussianEvent(noise_multiplier=config.evaluation.metrics_noise_multiplier)


def all_metrics_event(config: RunConfig) -> GaussianEvent | None:
    """What all answers of the run cost a site together; None where they cost nothing."""
    event = metrics_event(config)
    if event is None:
        return None
    rounds = range(1, config.federation.rounds + 1)
    answers = sum(len(stages_due(server_round, config)) for server_round in rounds)
    return GaussianEvent(event.noise_multiplier, count=answers)


def metrics_tensor(stage: Stage) -> str:
    """Name of the released tensor ``[6]``: the record says which stage it is of."""
    return f"metrics.{stage}"
