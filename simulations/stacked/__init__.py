"""A federation in one batch: the training of many sites, computed together."""

from __future__ import annotations

from simulations.stacked.proof import ProvedTrainer
from simulations.stacked.trainer import StackedTrainer

__all__ = ["ProvedTrainer", "StackedTrainer"]
