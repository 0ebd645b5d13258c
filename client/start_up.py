"""Before a site trains privately in a process: prove the private step on the real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from client.self_test_step import SelfTestReport, self_test
from client.self_test_sums import check_share
from client.self_test_updates import self_test_updates
from common.adapters import wire_name
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.context import NO_CONTEXT, ContextEncoder, UnitContext
from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.interactions import Catalogue
from common.noise_plan import noise_multiplier
from common.privacy_units import Contribution, Unit, collate, draw_contribution
from common.randomness import RandomSource, secure_source
from common.sum_plan import update_plan

SYNTHETIC_UNITS = 3
ITEMS_PER_UNIT = 6
TARGETS, NEGATIVES = 3, 5


@lru_cache(maxsize=8)
def prove_private_step(config: RunConfig, catalogue: Catalogue) -> SelfTestReport:
    """Runs the self-test on the process's recommender, once per configuration.

    The units are made up; no user's data are touched. The model is left as it was.

    Raises:
        SelfTestError: The step does not do what it claims; the site must not train.
    """
    source = secure_source()
    report = _prove_step(config, catalogue, source)
    if config.privacy.mode != "distributed":
        return report
    plan = update_plan(config, size(adapter_shapes(config)))
    return replace(report, share_ratio=check_share(plan, source))


def _prove_step(config: RunConfig, catalogue: Catalogue, source: RandomSource) -> SelfTestReport:
    recommender = build_recommender(config, catalogue)
    declared = set(adapter_shapes(config))
    names = [n for n, _ in recommender.named_parameters() if wire_name(n) in declared]
    if config.privacy.clipping == "update":
        return self_test_updates(
            recommender,
            [
                synthetic_unit(len(catalogue), source, ContextEncoder.of(config.model))
                for _ in range(SYNTHETIC_UNITS)
            ],
            config,
            declared_tensors=names,
            source=source,
        )
    contributions = [_synthetic(len(catalogue), config, source) for _ in range(SYNTHETIC_UNITS)]

    def unit_losses(batch: Sequence[Contribution]) -> torch.Tensor:
        return recommender.unit_losses(collate(batch, max_history=config.model.max_history))

    return self_test(
        recommender,
        lambda: contributions,
        unit_losses,
        declared_tensors=names,
        noise_multiplier=noise_multiplier(config),
        max_grad_norm=config.privacy.max_grad_norm,
        sample_rate=config.privacy.sample_rate,
        source=source,
        clip_rule=config.privacy.clip_rule,
    )


def synthetic_unit(
    catalogue_size: int, source: RandomSource, encoder: ContextEncoder = NO_CONTEXT
) -> Unit:
    """A made-up unit with a few random items, and random context where the model reads any."""
    items = source.permutation(catalogue_size)[: min(ITEMS_PER_UNIT, catalogue_size)]
    ratings = 1 + source.integers(5, len(items)).astype(np.float32)
    context = None
    if encoder.width:
        user = source.integers(2, encoder.buckets).astype(np.float32)
        time = source.integers(3, len(items) * encoder.times).astype(np.float32) - 1
        context = UnitContext(user, time.reshape(len(items), encoder.times))
    return Unit("synthetic", items, ratings, np.unique(items), context=context)


def _synthetic(catalogue_size: int, config: RunConfig, source: RandomSource) -> Contribution:
    return draw_contribution(
        synthetic_unit(catalogue_size, source, ContextEncoder.of(config.model)),
        catalogue_size=catalogue_size,
        targets=TARGETS,
        negatives=NEGATIVES,
        lora_rows=config.model.lora_rows if config.model.item_side != "head" else 0,
        source=source,
    )
