"""A released adapter as an attacker has it, and how well it fits a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from common.adapters import Adapter
from common.config import RunConfig
from common.context import ContextEncoder
from common.full_softmax import full_softmax_batch
from common.holdout import hold_out
from common.interactions import Catalogue, Dataset
from common.loaded_recommender import loaded_recommender
from common.privacy_units import Unit, draw_contribution, make_units
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.audit.binomial_bounds import Floats

_SCORES_AT_ONCE = 10_000_000


@dataclass(frozen=True, eq=False)
class ReleasedModel:
    """All that is needed to score with a run's result.

    Attributes:
        config: of the run.
        catalogue: the public items.
        adapter: the released one, or the public one that every run starts from.
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
    """

    config: RunConfig
    catalogue: Catalogue
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]

    def with_adapter(self, adapter: Adapter) -> ReleasedModel:
        """The same run with another adapter."""
        return replace(self, adapter=adapter)

    def loaded(self) -> Recommender:
        """The process's recommender with the adapter in place, ready to score."""
        recommender = loaded_recommender(self.config, self.catalogue, self.adapter, self.item_prior)
        recommender.eval()
        return recommender


def training_units(config: RunConfig, people: Dataset) -> list[Unit]:
    """One unit for each user: their training part, with the histories that training shows.

    The attacks' unit is always the user, whatever unit the run protects.
    """
    data = config.data
    splits = hold_out(
        people.interactions,
        people.catalogue,
        split=data.split,
        seed=data.seed,
        cut=data.cut,
        users=people.users,
    )
    encoder = ContextEncoder.of(config.model)
    return make_units(splits, max_history=config.model.max_history, encoder=encoder)


def user_losses(model: ReleasedModel, units: Sequence[Unit]) -> Floats:
    """The training loss of each user, ``[n]``: the mean over all items that may be targets.

    It is the run's objective, each target against the whole catalogue, so that no draw of
    negatives stands between two users.
    """
    recommender, size = model.loaded(), len(model.catalogue)
    order = np.argsort([len(unit.items) for unit in units], kind="stable")  # padded less
    found = np.zeros(len(units))
    start = 0
    while start < len(order):
        longest = len(units[order[min(start + 64, len(order)) - 1]].items)
        some = order[start : start + max(1, min(64, _SCORES_AT_ONCE // (longest * size)))]
        found[some] = _losses(recommender, [units[place] for place in some], model.config, size)
        start += len(some)
    return found


@torch.no_grad()
def _losses(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig, size: int
) -> Floats:
    source = seeded_source(0, "audit", "losses")  # orders targets, whose mean is taken
    batch = full_softmax_batch(
        [
            draw_contribution(
                unit,
                catalogue_size=size,
                targets=len(unit.items),
                negatives=0,
                lora_rows=0,
                source=source,
            )
            for unit in units
        ],
        catalogue_size=size,
        max_history=config.model.max_history,
        lora_rows=0,
        source=source,
    )
    return recommender.unit_losses(batch).double().cpu().numpy()
