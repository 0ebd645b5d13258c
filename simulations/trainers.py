"""Chooses what trains the sites of the `inprocess` engine."""

from __future__ import annotations

from client.site_by_site import SITE_BY_SITE
from common.config import RunConfig
from simulations.batch_trainer import BatchTrainer, OneByOne


def batch_trainer(config: RunConfig) -> BatchTrainer:
    """The trainer that `engine.training` names."""
    trainers = {"site_by_site": OneByOne(SITE_BY_SITE), "stacked": OneByOne(SITE_BY_SITE)}
    return trainers[config.engine.training]
