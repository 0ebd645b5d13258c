"""Chooses what trains the sites of the `inprocess` engine."""

from __future__ import annotations

from client.site_by_site import SITE_BY_SITE
from common.config import RunConfig
from simulations.batch_trainer import BatchTrainer, OneByOne
from simulations.stacked import ProvedTrainer


def batch_trainer(config: RunConfig) -> BatchTrainer:
    """The trainer that `engine.training` names; a full softmax has no rows per unit to stack."""
    if config.engine.training == "site_by_site" or config.has_full_softmax:
        return OneByOne(SITE_BY_SITE)
    return ProvedTrainer()
